"""Networks by name: ``@register_model("unetr")`` is all that a new network needs to be built, stored and served."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

_Network = TypeVar("_Network", bound=Callable[..., nn.Module])
_MODELS: dict[str, Callable[..., nn.Module]] = {}


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
    return sorted(_MODELS)


def build_model(name: str, **arguments: Any) -> Any:
    """A freshly initialised network.

    Raises:
        ValueError: no network is registered by that name.
        TypeError: ``arguments`` are not those of its constructor.
    """
    if name not in _MODELS:
        raise ValueError(f"No network is registered as {name!r}: use one of {', '.join(list_models())}, or import its module.")
    return _MODELS[name](**arguments)
