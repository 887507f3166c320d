"""The stock MONAI Label server behind this package's guards, for ``monailabel start_server --uvicorn_app prato_server.app:app``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from monailabel.app import app
from monailabel.interfaces.utils.app import app_instance
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from prato_server.guards import HEADER, BodyLimit, Hosts, PlainRequests, RequestIds, TokenGate
from prato_server.settings import Settings, settings


def guards(asked: Settings) -> list[Middleware]:
    """What a request passes, outermost first. Of the stock server's own, which let every origin in, none stays."""
    token = asked.secret()
    stack = [Middleware(RequestIds), Middleware(PlainRequests), Middleware(Hosts, origins=asked.origins, open_to_others=token is not None)]
    if asked.origins:
        methods, exposed = ["GET", "POST", "PUT", "DELETE", "HEAD"], [HEADER, "Retry-After"]
        stack.append(
            Middleware(CORSMiddleware, allow_origins=asked.origins, allow_methods=methods, allow_headers=["*"], expose_headers=exposed)
        )
    if token is not None:
        stack.append(Middleware(TokenGate, token=token))
    return [*stack, Middleware(BodyLimit, upload=asked.max_request_mb * 2**20)]


_stock_lifespan = app.router.lifespan_context


@asynccontextmanager
async def _lifespan(served: FastAPI) -> AsyncIterator[None]:
    async with _stock_lifespan(served):
        yield
        app_instance().close()


app.user_middleware[:] = guards(settings())
app.router.lifespan_context = _lifespan
