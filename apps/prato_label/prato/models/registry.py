"""Networks by name: ``@register_model("unetr")`` in a file of this package is all that a network needs to be built, stored and served."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import nn

import prato.models
from prato.models.base import PrunableNetwork
from prato.runtime.registry import Registry, import_modules

_Network = TypeVar("_Network", bound=type[nn.Module])
#: In-plane resolution (mm) and window edge (pixels) of the presets: 192 mm, room for a heart whichever half of it the box was drawn round.
PIXEL, WINDOW = 1.5, 128
#: The shipped model that answers where nobody names another: it needs no box, and proposes boxes to the models that do.
DEFAULT_MODEL = "prato_overview_unet"


_MODELS: Registry[type[nn.Module]] = Registry("networks")
_PRESETS: dict[str, Mapping[str, Any]] = {}


def register_model(name: str, preset: Mapping[str, Any] | None = None) -> Callable[[_Network], _Network]:
    """Class decorator: from now on ``build_model(name, ...)`` builds the decorated class.

    Args:
        preset: the fields of a :class:`~prato.models.checkpoint.ModelSpec` that a training starts from (``model_preset``); "arguments", the
            constructor's, are among them.

    Raises:
        TypeError: the class lacks methods that every network has.
        ValueError: another class is registered by that name.
    """

    def register(network: _Network) -> _Network:
        if issubclass(network, PrunableNetwork) and (missing := network.missing_methods()):
            raise TypeError(f"The network {name!r} lacks {' and '.join(missing)}: write what PrunableNetwork says of them.")
        _MODELS.register(name)(network)
        if preset is not None:
            _PRESETS[name] = preset
        return network

    return register


def list_models() -> list[str]:
    """The registered names, sorted."""
    import_modules(prato.models)
    return sorted(_MODELS)


def is_registered(name: str) -> bool:
    """Whether a network of that name is there, or in a file of this package."""
    return name in _MODELS or name in list_models()


def model_class(name: str) -> Any:
    """The class that is registered by that name.

    Raises:
        ValueError: there is none.
    """
    if not is_registered(name):
        raise ValueError(f"No network is registered as {name!r}: use one of {', '.join(list_models())}, or import its module.")
    return _MODELS[name]


def list_presets() -> list[str]:
    """The names of the networks with a preset that look at windows round a box (``centre`` of a ``ModelSpec``), sorted."""
    return [name for name in list_models() if name in _PRESETS and _PRESETS[name].get("centre", "box") == "box"]


def preset_fields(name: str) -> dict[str, Any]:
    """The fields of a network's preset.

    Raises:
        ValueError: it has none, or no network is registered by that name.
    """
    model_class(name)  # which is there, preset or not
    if name not in _PRESETS:
        raise ValueError(f"{name} has no preset: use one of {', '.join(list_presets())}.")
    return {"network": name, "window": WINDOW, "pixel": PIXEL, **_PRESETS[name]}


def build_model(name: str, **arguments: Any) -> Any:
    """A freshly initialised network.

    Raises:
        ValueError: no network is registered by that name.
        TypeError: ``arguments`` are not those of its constructor.
    """
    return model_class(name)(**arguments)
