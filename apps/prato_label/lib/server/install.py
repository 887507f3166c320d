"""Puts this app's routes, checks and error answers into the server that the stock `monailabel start_server` runs."""

from __future__ import annotations

from monailabel.config import settings
from starlette.middleware import Middleware

from lib.server import batch_routes, errors, files, infer, label_routes, model_routes, page, routes, scoring_routes, stock, train_routes
from prato_server.plain_requests import PlainRequests
from prato_server.request_ids import RequestIds


def install() -> None:
    """To be called while the server starts, before its first request."""
    from monailabel.app import app  # importing it builds the server

    errors.register(app)
    table = app.router.routes
    theirs = list(table)
    for module in (infer, files, label_routes, train_routes, model_routes, batch_routes, scoring_routes, stock, routes, page):
        app.include_router(module.router, prefix=settings.MONAI_LABEL_API_STR)
    table[:] = [*table[len(theirs) :], *theirs]  # the first route that matches answers
    if not any(guard.cls is RequestIds for guard in app.user_middleware):  # the stock command, without serve.py's guards
        app.user_middleware[:0] = [Middleware(RequestIds), Middleware(PlainRequests)]
    # this runs inside the server's start-up event, with the stack already built: the first request builds it anew, with all of this
    app.middleware_stack = None
