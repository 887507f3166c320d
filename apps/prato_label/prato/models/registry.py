"""Networks by name: ``@register_model("unetr")`` in a file of this package is all that a network needs to be built, stored and served."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

from torch import nn

import prato.models
from prato.pruning.plan import PruningPlan

_Network = TypeVar("_Network", bound=type[nn.Module])
#: In-plane resolution (mm) and window edge (pixels) of the presets: 192 mm, room for a heart whichever half of it the box was drawn round.
PIXEL, WINDOW = 1.5, 128
#: The shipped model that answers where nobody names another: it needs no box, and proposes boxes to the models that do.
DEFAULT_MODEL = "prato_overview_unet"


@dataclass(frozen=True)
class _Entry:
    network: type[nn.Module]
    plan: PruningPlan | None
    preset: Mapping[str, Any] | None


_MODELS: dict[str, _Entry] = {}


def register_model(name: str, plan: PruningPlan | None = None, preset: Mapping[str, Any] | None = None) -> Callable[[_Network], _Network]:
    """Class decorator: from now on ``build_model(name, ...)`` builds the decorated class.

    Args:
        plan: how it is pruned where nobody says otherwise.
        preset: the fields of a :class:`~prato.models.checkpoint.ModelSpec` that a training starts from (``model_preset``); "arguments", the
            constructor's, are among them.

    Raises:
        ValueError: another class is registered by that name.
    """

    def register(network: _Network) -> _Network:
        if _MODELS.setdefault(name, _Entry(network, plan, preset)).network is not network:
            raise ValueError(f"Two networks are registered as {name!r}: give one of them another name.")
        return network

    return register


def list_models() -> list[str]:
    """The registered names, sorted."""
    _import_models()
    return sorted(_MODELS)


def model_class(name: str) -> Any:
    """The class that is registered by that name.

    Raises:
        ValueError: there is none.
    """
    return _entry(name).network


def default_plan(name: str) -> PruningPlan | None:
    """How the network is pruned where nobody says otherwise. Raises ValueError where none is registered by that name."""
    return _entry(name).plan


def list_presets(centre: str = "box") -> list[str]:
    """The names of the networks with a preset that look at windows round this ``centre`` (see ``ModelSpec``), sorted."""
    presets = {name: _MODELS[name].preset for name in list_models()}
    return [name for name, preset in presets.items() if preset is not None and preset.get("centre", "box") == centre]


def preset_fields(name: str) -> dict[str, Any]:
    """The fields of a network's preset.

    Raises:
        ValueError: it has none, or no network is registered by that name.
    """
    preset = _entry(name).preset
    if preset is None:
        raise ValueError(f"{name} has no preset: use one of {', '.join(list_presets())}.")
    return {"network": name, "window": WINDOW, "pixel": PIXEL, **preset}


def build_model(name: str, **arguments: Any) -> Any:
    """A freshly initialised network.

    Raises:
        ValueError: no network is registered by that name.
        TypeError: ``arguments`` are not those of its constructor.
    """
    return model_class(name)(**arguments)


def _entry(name: str) -> _Entry:
    if name not in _MODELS:
        _import_models()
    if name not in _MODELS:
        raise ValueError(f"No network is registered as {name!r}: use one of {', '.join(list_models())}, or import its module.")
    return _MODELS[name]


@cache
def _import_models() -> None:
    """Have every file of this package register its networks."""
    for module in pkgutil.iter_modules(prato.models.__path__, "prato.models."):
        import_module(module.name)
