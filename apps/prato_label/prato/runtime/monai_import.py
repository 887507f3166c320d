"""Imports MONAI and nibabel without what few of their functions need, which halves the time that every command and process takes to start.

At its first import MONAI loads all of itself, and with that every optional package that it finds. Here most of those are *postponed*: the
module is there, and is executed when something of it is used, so that nothing is missing. mlflow and torchvision are *hidden*, since MONAI
executes them at once: for one event handler, and for detectors and backbones, that nothing here uses, and beside a CPU build of torch
torchvision cannot be imported anyway. Who wants them imports ``monai`` before ``prato``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import version
from threading import RLock
from types import ModuleType
from typing import Any

#: What is executed at its first use -> its classes and functions that MONAI and ignite take by name while they are imported.
POSTPONED: dict[str, tuple[str, ...]] = {
    "torch.distributed.optim": ("ZeroRedundancyOptimizer",),
    "pandas": ("DataFrame",),
    "matplotlib.pyplot": (),
    "itk": (),
    "gdown": (),
    "bs4": ("BeautifulSoup",),
    "torch.utils.tensorboard": ("SummaryWriter",),
    "tensorboard.compat.proto.summary_pb2": ("Summary",),
    "pydicom": ("Dataset",),
    "scipy.optimize": ("linear_sum_assignment",),
    "scipy.signal": ("hilbert", "iirnotch"),
    "skimage.morphology": ("disk", "opening", "remove_small_objects"),
    "skimage.measure": ("centroid", "find_contours"),
    "skimage.segmentation": ("watershed",),
}
#: What MONAI is to take for not installed.
HIDDEN = ("mlflow", "torchvision")


def import_monai_lightly() -> None:
    """From now on MONAI and nibabel, each while it is imported for the first time, find some modules postponed or hidden."""
    names = {"monai", "nibabel"} - {*sys.modules}
    if names:
        sys.meta_path.insert(0, _LightFinder(names))


class _LightFinder(MetaPathFinder):
    """Finds these packages where Python does, each once."""

    def __init__(self, names: set[str]) -> None:
        self.names = names

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname not in self.names:
            return None
        self.names.remove(fullname)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _LightLoader(spec.loader)
        return spec


class _LightLoader(Loader):
    """Another loader, while which hidden modules count as not installed (None in ``sys.modules``) and others are postponed."""

    def __init__(self, own: Loader) -> None:
        self.own = own

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        hidden = [name for name in HIDDEN if name not in sys.modules]
        sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
        was_active, _postponing.is_active = _postponing.is_active, True  # it was, where MONAI is what imports nibabel
        if _postponing not in sys.meta_path:
            sys.meta_path.insert(0, _postponing)
        try:
            self.own.exec_module(module)
        finally:
            _postponing.is_active = was_active
            for name in hidden:
                del sys.modules[name]


class _PostponingFinder(MetaPathFinder):
    """While active, finds each postponed module where Python does, with a loader that waits.

    Whoever looks for a module within one, then or later, has it executed.
    """

    is_active = False

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        holder = sys.modules.get(fullname.rpartition(".")[0])
        if isinstance(holder, _PostponedModule):
            holder.execute()
            if fullname in sys.modules:  # by now; Python would execute it once more, by the loader of the spec that the module itself has
                module = sys.modules[fullname]
                module.__spec__ = ModuleSpec(fullname, _LoadedLoader(module))
                return module.__spec__
        if fullname not in POSTPONED or not self.is_active:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _PostponingLoader(spec.loader)
        return spec


_postponing = _PostponingFinder()


class _LoadedLoader(Loader):
    """Of a module that is loaded already."""

    def __init__(self, module: ModuleType) -> None:
        self.module, self.spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec


class _PostponingLoader(Loader):
    def __init__(self, own: Loader) -> None:
        self.own = own

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing yet."""
        module.__class__ = _PostponedModule


class _PostponedModule(ModuleType):
    """A module that is executed when a name is looked for that it has not got; importlib's own lazy ones answer not even ``__file__``."""

    _lock = RLock()

    def __getattr__(self, name: str) -> Any:
        if _postponing.is_active:
            if name == "__version__":
                return version(self.__name__)
            if name in POSTPONED[self.__name__]:
                return _Postponed(name, (), {"__module__": self.__name__})
        self.execute()
        actual = sys.modules[self.__name__]  # some put another module in their own place, as itk does
        if actual is self and type(self) is _PostponedModule:  # being executed, by this thread, and not yet so far
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(actual, name)

    def execute(self) -> None:
        with self._lock:
            spec = self.__spec__
            if spec is None or not isinstance(spec.loader, _PostponingLoader):
                return
            spec.loader = self.__loader__ = spec.loader.own
            spec.loader.exec_module(self)
            if sys.modules[self.__name__] is self:
                self.__class__ = ModuleType  # type: ignore[assignment]


class _Postponed(type):
    """Stands for the class or function of that name in that module."""

    def _actual(cls) -> Any:
        return getattr(sys.modules[cls.__module__], cls.__name__)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return cls._actual()(*args, **kwargs)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls._actual())

    def __getattr__(cls, name: str) -> Any:
        return getattr(cls._actual(), name)
