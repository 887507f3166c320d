"""A page of the server in a real browser."""

from __future__ import annotations

import os
from typing import Any

#: Where a run that is asked to leaves pictures of the pages for the documentation: a folder.
PICTURES = os.environ.get("PRATO_TEST_PAGE_PICTURES")
#: A file may be called so, and an annotator call himself so.
HOSTILE = "<img src=x onerror=window.owned=document.title='owned'>"


def open_page(browser: Any, address: str, height: int = 900) -> tuple[Any, list[str], list[str]]:
    """The page at ``address``, in a session of its own; the faults that it tells of, and the addresses that it asks for, as they come."""
    page = browser.new_context().new_page()
    page.set_viewport_size({"width": 1100, "height": height})
    page.set_default_timeout(200_000)
    told: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: told.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    return page, told, asked
