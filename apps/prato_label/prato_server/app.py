"""The stock MONAI Label server behind this package's middleware, for ``monailabel start_server --uvicorn_app prato_server.app:app``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from monailabel.app import app
from monailabel.interfaces.utils.app import app_instance
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from prato_server.middleware import HEADER, AddressMiddleware, BodyLimitMiddleware, HostMiddleware, RequestIdMiddleware, TokenMiddleware
from prato_server.settings import Settings, load_settings


def build_middleware(settings: Settings) -> list[Middleware]:
    """What a request passes, outermost first. None of the stock server's own stays, as it admits every origin."""
    token = settings.read_token()
    stack = [
        Middleware(RequestIdMiddleware),
        Middleware(AddressMiddleware),
        Middleware(HostMiddleware, origins=settings.origins, open_to_others=token is not None),
    ]
    if settings.origins:
        methods, exposed = ["GET", "POST", "PUT", "DELETE", "HEAD"], [HEADER, "Retry-After"]
        stack.append(
            Middleware(CORSMiddleware, allow_origins=settings.origins, allow_methods=methods, allow_headers=["*"], expose_headers=exposed)
        )
    if token is not None:
        stack.append(Middleware(TokenMiddleware, token=token))
    return [*stack, Middleware(BodyLimitMiddleware, upload=settings.max_request_mb * 2**20)]


_stock_lifespan = app.router.lifespan_context


@asynccontextmanager
async def _lifespan(served: FastAPI) -> AsyncIterator[None]:
    async with _stock_lifespan(served):
        yield
        app_instance().close()


app.user_middleware[:] = build_middleware(load_settings())
app.router.lifespan_context = _lifespan
