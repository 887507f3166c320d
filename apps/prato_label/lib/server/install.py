"""Puts this app's routes, checks and error answers into the server that the stock `monailabel start_server` runs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.openapi.utils import get_openapi
from monailabel.config import settings
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from lib.server import (
    downloads,
    errors,
    import_routes,
    infer_routes,
    job_routes,
    label_routes,
    model_routes,
    page,
    stock_routes,
    study_routes,
    uploads,
    viewer,
)
from lib.server.checks import report_unread
from lib.server.shutdown import notice_signals
from prato_server.log_lines import shorten_packed
from prato_server.middleware import AddressMiddleware, RequestIdMiddleware

_ROUTERS = (
    *(
        module.router
        for module in (infer_routes, uploads, import_routes, downloads, label_routes, study_routes, model_routes, stock_routes, page)
    ),
    *(job_routes.training, job_routes.batch),
)


def _describe(app: FastAPI, routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """The description of ``routes`` for programs, in which of two for the same requests the last one is shown."""
    described = get_openapi(title=app.title, version=app.version, routes=routes)
    for path in stock_routes.CLOSED:
        described["paths"].pop(f"{settings.MONAI_LABEL_API_STR}{path}", None)
    return described


def install() -> None:
    """To be called while the server starts, before its first request."""
    from monailabel.app import app  # importing it builds the server

    errors.register(app)
    table = app.router.routes
    stock_routes_before = list(table)
    for router in _ROUTERS:
        app.include_router(router, prefix=settings.MONAI_LABEL_API_STR, dependencies=[Depends(report_unread)])
    app.include_router(viewer.router, prefix=settings.MONAI_LABEL_API_STR)
    own = table[len(stock_routes_before) :]
    table[:] = [*own, *stock_routes_before]  # the first route that matches answers
    app.openapi = cache(partial(_describe, app, [*stock_routes_before, *own]))  # type: ignore[method-assign]
    if not any(guard.cls is RequestIdMiddleware for guard in app.user_middleware):  # the stock command, without serve.py's guards
        app.user_middleware[:0] = [Middleware(RequestIdMiddleware), Middleware(AddressMiddleware)]
    notice_signals()
    shorten_packed()
    # this runs inside the server's start-up event, with the stack already built: the first request rebuilds it, with all of this
    app.middleware_stack = None
