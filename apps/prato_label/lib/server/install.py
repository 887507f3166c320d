"""Puts this app's routes, checks and error answers into the server that the stock `monailabel start_server` runs."""

from __future__ import annotations

from monailabel.config import settings

from lib.server import errors, model_routes, routes, train_routes


def install() -> None:
    """To be called while the server starts, before its first request."""
    from monailabel.app import app  # importing it builds the server

    errors.register(app)
    known = app.router.routes
    theirs = list(known)
    for ours in (train_routes, model_routes, routes):
        app.include_router(ours.router, prefix=settings.MONAI_LABEL_API_STR)
    known[:] = [*known[len(theirs) :], *theirs]  # the first route that matches answers
    # this runs inside the server's start-up event, with the stack already built: the first request builds it anew, with the handlers above
    app.middleware_stack = None
