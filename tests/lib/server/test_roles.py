"""Who may ask for what where MONAI Label's authentication is switched on: no route of this app asks for less than MONAI Label's own."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from fastapi import APIRouter
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from monailabel.config import settings
from monailabel.endpoints import activelearning, batch_infer, datastore, infer, info, logs, model, ohif, proxy, session, train
from monailabel.endpoints.user.auth import RBAC

from lib.server import viewer
from lib.server.install import _ROUTERS
from prato_server.middleware import PUBLIC_PATHS

_STOCK = [module.router for module in (activelearning, batch_infer, datastore, infer, info, logs, model, ohif, proxy, session, train)]
_RANKS = ["nobody", settings.MONAI_LABEL_AUTH_ROLE_USER, settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR, settings.MONAI_LABEL_AUTH_ROLE_ADMIN]
#: They answer everybody the same, 404.
_CLOSED = {"/reload", "/infer/wsi/{model}", "/infer/wsi_v2/{model}"}


def role(dependant: Dependant) -> int:
    """The rank of the role that a route requires; 0 where it requires none."""
    own = _RANKS.index(str(dependant.call.roles)) if isinstance(dependant.call, RBAC) else 0
    return max([own, *(role(inner) for inner in dependant.dependencies)])


def roles(routers: Iterable[APIRouter]) -> dict[tuple[str, str], int]:
    """The rank that each method and path of ``routers`` requires; of two routes that match, the first answers."""
    found: dict[tuple[str, str], int] = {}
    for route in (route for router in routers for route in router.routes):
        assert isinstance(route, APIRoute)
        for method in route.methods:
            found.setdefault((method, route.path), role(route.dependant))
    return found


OURS = roles([*_ROUTERS, viewer.router])


@pytest.mark.parametrize("asked", sorted(OURS), ids=" ".join)
def test_a_route_requires_a_role_and_no_lower_one_than_the_stock_route(asked: tuple[str, str]) -> None:
    if asked[1] in PUBLIC_PATHS | _CLOSED:
        assert not OURS[asked]
    else:
        assert OURS[asked] >= max(1, roles(_STOCK).get(asked, 0))


def test_the_stock_routes_are_found() -> None:
    assert len(OURS.keys() & roles(_STOCK)) > 30
