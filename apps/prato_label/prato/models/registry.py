"""Networks by name: ``@register_model("unetr")`` in a file of this package is all that a network needs to be built, stored and served."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

from torch import nn

import prato.models

_Network = TypeVar("_Network", bound=type[nn.Module])
_MODELS: dict[str, type[nn.Module]] = {}


def register_model(name: str) -> Callable[[_Network], _Network]:
    """Class decorator: from now on ``build_model(name, ...)`` builds the decorated class.

    Raises:
        ValueError: another class is registered by that name.
    """

    def register(network: _Network) -> _Network:
        if _MODELS.setdefault(name, network) is not network:
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
    if name not in _MODELS:
        _import_models()
    if name not in _MODELS:
        raise ValueError(f"No network is registered as {name!r}: use one of {', '.join(list_models())}, or import its module.")
    return _MODELS[name]


def build_model(name: str, **arguments: Any) -> Any:
    """A freshly initialised network.

    Raises:
        ValueError: no network is registered by that name.
        TypeError: ``arguments`` are not those of its constructor.
    """
    return model_class(name)(**arguments)


@cache
def _import_models() -> None:
    """Have every file of this package register its networks."""
    for module in pkgutil.iter_modules(prato.models.__path__, "prato.models."):
        import_module(module.name)
