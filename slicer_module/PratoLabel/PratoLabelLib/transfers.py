"""Files that come from the server and go to it. Runs in the worker: files alone, no nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from PratoLabelLib.client import Client, ServerError
from PratoLabelLib.open_study import OpenStudy


class Fetched(NamedTuple):
    """A study, its image, and its label with the label's version where there are any."""

    study: str
    image: Path
    label: Path | None
    version: int | None


def fetched(client: Client, study: str, labelled: bool, folder: Path) -> Fetched:
    """Download a study into ``folder``; ``labelled`` counts where the server keeps no versions of labels."""
    image = client.download_image(study, folder)
    version = client.current_version(study)  # first its number: the label may be replaced at any moment
    if version is None:
        return Fetched(study, image, client.download_label(study, folder) if labelled else None, None)
    return Fetched(study, image, client.download_version(study, version, folder) if version else None, version)


def submitted(client: Client, opened: OpenStudy, path: Path, info: dict[str, Any]) -> dict[str, Any]:
    """Hand in the label at ``path``, which is what further work begins with; returns the server's reply."""
    server, version = opened.base or ("", 0)
    based = {"base_version": version} if server == client.address else {}
    try:
        reply = client.submit(opened.study, path, {**info, **based})
    except ServerError as error:
        if error.status != 400 or not based:
            raise
        reply = client.submit(opened.study, path, info)  # a server whose history was lost knows no such version, and the work must not be
    opened.base = (client.address, reply["version"]) if isinstance(reply.get("version"), int) else None
    return reply
