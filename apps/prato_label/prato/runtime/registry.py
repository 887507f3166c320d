"""What is found by name: networks, prompts, baselines, data sets, strategies and layouts are one file each, which registers its name."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, TypeVar

_Entry = TypeVar("_Entry")
_Decorated = TypeVar("_Decorated")


class Registry(dict[str, _Entry]):
    """What is registered, by name.

    Args:
        kind: what messages call the entries, in the plural: "networks".
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self._kind = kind

    def register(self, name: str) -> Callable[[_Decorated], _Decorated]:
        """Class decorator: the decorated class, or whatever else it is called with, is ``self[name]`` from now on.

        Raises:
            ValueError: another one is registered by that name.
        """

        def add(entry: Any) -> Any:
            if self.setdefault(name, entry) is not entry:
                raise ValueError(f"Two {self._kind} are registered as {name!r}: give one of them another name.")
            return entry

        return add


def import_modules(package: ModuleType) -> None:
    """Import every file of ``package``, so that whatever its decorators name is registered."""
    for module in iter_modules(package.__path__, f"{package.__name__}."):
        import_module(module.name)
