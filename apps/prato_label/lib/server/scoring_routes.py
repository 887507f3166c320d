"""MONAI Label's scoring of labels, of which this app has no method."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException
from monailabel.endpoints.user.auth import User

from lib.server import roles

router = APIRouter(prefix="/scoring")


@router.get("/")
@router.post("/")
@router.post("/{method}")
@router.delete("/")
def no_scoring(method: str = "", user: User = roles.USER) -> None:
    """Nothing is scored beforehand."""
    named = f" {method[:60]!r}" if method else ""
    instead = "POST /activelearning/jitter, phases, entropy or coverage scores studies as it chooses one."
    raise HTTPException(404, f"There is no scoring method{named} here: {instead}")
