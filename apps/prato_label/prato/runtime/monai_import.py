"""MONAI imported without mlflow, which takes a quarter of the seconds that every command and every process starts with.

At its first import MONAI loads all of itself, and with that every optional package that it finds: mlflow, for one event handler that
nothing here uses, brings the client libraries of two clouds. Who wants that handler imports ``monai`` before ``prato``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any


def hide_mlflow_from_monai() -> None:
    """From now on, while MONAI is imported for the first time, mlflow counts as not installed; before and after, it is what it is."""
    if "monai" not in sys.modules:
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds MONAI where Python does, once."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != "monai":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    """Another loader, for which a module that is None in ``sys.modules`` is not installed."""

    def __init__(self, own: Loader) -> None:
        self.own = own

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        is_there = "mlflow" in sys.modules
        if not is_there:
            sys.modules["mlflow"] = None  # type: ignore[assignment]
        try:
            self.own.exec_module(module)
        finally:
            if not is_there:
                del sys.modules["mlflow"]
