"""What is left of a download whose client has gone."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

from starlette.types import Message

from lib.server.downloads import Download


def test_a_file_is_closed_at_once_where_its_client_leaves_in_the_middle(tmp_path: Path) -> None:
    (path := tmp_path / "a.nii.gz").write_bytes(bytes(2**20))
    file, begun = path.open("rb"), asyncio.Event()

    async def send(message: Message) -> None:
        if message.get("body"):  # nobody takes it
            begun.set()
            await asyncio.Event().wait()

    async def receive() -> Message:
        await begun.wait()
        return {"type": "http.disconnect"}

    gc.disable()  # it may be long until it runs
    try:
        asyncio.run(Download(file, path.name)({"type": "http", "asgi": {"spec_version": "2.3"}}, receive, send))
        assert file.closed
    finally:
        gc.enable()
