"""Strategies by name: ``@register_strategy("entropy")`` is all that a new one needs to be offered, in one new file of this folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import TypeVar

from monailabel.interfaces.tasks.strategy import Strategy

import lib.activelearning
from lib.infers.live_predictor import LivePredictor

_Strategy = TypeVar("_Strategy", bound=Callable[..., Strategy])
_STRATEGIES: dict[str, Callable[[Mapping[str, LivePredictor], str], Strategy]] = {}
#: In the order in which clients show them; others follow by name.
_ORDER = ("first", "random", "jitter", "phases", "entropy", "coverage")


def register_strategy(name: str) -> Callable[[_Strategy], _Strategy]:
    """Class decorator: from now on the server offers the decorated strategy as ``name``; it is built from predictors and a default's name.

    Raises:
        ValueError: another strategy is registered by that name.
    """

    def register(strategy: _Strategy) -> _Strategy:
        if _STRATEGIES.setdefault(name, strategy) is not strategy:
            raise ValueError(f"Two strategies are registered as {name!r}: give one of them another name.")
        return strategy

    return register


def build_strategies(predictors: Mapping[str, LivePredictor], default: str) -> dict[str, Strategy]:
    """The strategies by the names that clients show.

    Args:
        predictors: by model, which of them may score studies; a request names its ``model``, or else ``default`` is taken.
    """
    for module in iter_modules(lib.activelearning.__path__):
        import_module(f"lib.activelearning.{module.name}")
    names = sorted(_STRATEGIES, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))
    return {name: _STRATEGIES[name](predictors, default) for name in names}
