"""Strategies by name: ``@register_strategy("entropy")`` is all that a new one needs to be offered, in one new file of this folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from monailabel.interfaces.tasks.strategy import Strategy

import lib.activelearning
from lib.infers.live_predictor import LivePredictor
from prato.runtime.registry import Registry, import_modules

_Strategy = TypeVar("_Strategy", bound=Callable[..., Strategy])
_STRATEGIES: Registry[Callable[[Mapping[str, LivePredictor], str], Strategy]] = Registry("strategies")
#: In the order in which clients show them; others follow by name.
_ORDER = ("first", "random", "jitter", "phases", "entropy", "coverage")


def register_strategy(name: str) -> Callable[[_Strategy], _Strategy]:
    """Class decorator: from now on the server offers the decorated strategy as ``name``; it is built from predictors and a default's name.

    Raises:
        ValueError: another strategy is registered by that name.
    """
    return _STRATEGIES.register(name)


def build_strategies(predictors: Mapping[str, LivePredictor], default: str) -> dict[str, Strategy]:
    """The strategies by the names that clients show.

    Args:
        predictors: by model, which of them may score studies; a request names its ``model``, or else ``default`` is taken.
    """
    import_modules(lib.activelearning)
    names = sorted(_STRATEGIES, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))
    return {name: _STRATEGIES[name](predictors, default) for name in names}
