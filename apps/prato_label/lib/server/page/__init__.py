"""The web pages: one of the server and one of each study. Fixed files, and what they show as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse
from monailabel.endpoints.user.auth import User
from monailabel.interfaces.utils.app import app_instance

from lib.server.checks import USER
from lib.server.page.state import server_state
from lib.server.page.study import show_study

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
#: By path; none of them says anything of this server: the pages ask for the token, and for all else with it.
_FILES = {
    **{"/": ("page.html", "text/html"), "/study": ("study.html", "text/html"), "/page.css": ("page.css", "text/css")},
    **{f"/{name}": (name, "text/javascript") for name in ("page.js", "study.js", "beat.js", "shared.js")},
}


def _serve(name: str, media_type: str) -> Any:
    return lambda: FileResponse(_HERE / name, media_type=media_type, headers=_HEADERS)


for _path, _file in _FILES.items():
    router.add_api_route(_path, _serve(*_file), methods=["GET"], response_model=None)


@router.get("/state")
def state(user: User = USER) -> dict[str, Any]:
    """What the server's page shows; see docs/protocol/pages.md."""
    return server_state(app_instance())


@router.get("/study/state")
def study_state(image: str, user: User = USER) -> dict[str, Any]:
    """What a study's page shows beside the pictures; see docs/protocol/pages.md."""
    return show_study(app_instance(), image).state()


@router.get("/study/pictures")
def study_pictures(image: str, user: User = USER) -> dict[str, Any]:
    """The pictures of all phases of a study and the contours of its label; see docs/protocol/pages.md."""
    shown = show_study(app_instance(), image)
    return {"view": shown.key, **shown.view.pictures()}
