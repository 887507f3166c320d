"""The status page: three fixed files, and what they show as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse
from monailabel.endpoints.user.auth import User
from monailabel.interfaces.utils.app import app_instance

from lib.server.checks import USER
from lib.server.page.state import server_state

router = APIRouter(prefix="/prato", include_in_schema=False)
_HERE = Path(__file__).parent
#: Nothing from elsewhere is loaded, run or framed, whatever a study is called.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


@router.get("/")
def page() -> FileResponse:
    """The page; it says nothing of this server before it has the token."""
    return FileResponse(_HERE / "page.html", media_type="text/html", headers=_HEADERS)


@router.get("/page.js")
def script() -> FileResponse:
    """What fills the page."""
    return FileResponse(_HERE / "page.js", media_type="text/javascript", headers=_HEADERS)


@router.get("/page.css")
def style() -> FileResponse:
    """What the page looks like."""
    return FileResponse(_HERE / "page.css", media_type="text/css", headers=_HEADERS)


@router.get("/state")
def state(user: User = USER) -> dict[str, Any]:
    """What the page shows; see docs/protocol.md."""
    return server_state(app_instance())
