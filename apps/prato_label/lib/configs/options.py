"""What is chosen at the start by ``--conf``, as in MONAI Label's own apps: which models are offered, and whether they are trained."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

_ALL = "all"
_TRUE_OR_FALSE = {"true": True, "false": False}


class OptionsError(ValueError):
    """An option that cannot be used; the message is one sentence."""


@dataclass(frozen=True)
class Options:
    """What ``--conf`` says.

    Attributes:
        models: those to offer, comma-separated, or "all". skip_trainers: whether none of them may be trained.
        unread: names that MONAI Label's own apps may read, and this one does not.
    """

    models: str = _ALL
    skip_trainers: bool = False
    unread: tuple[str, ...] = ()

    @classmethod
    def parse(cls, conf: Mapping[str, Any]) -> Options:
        """Read ``conf``, whose values are text or, from the environment (``MONAI_LABEL_APP_CONF``), JSON.

        Raises:
            OptionsError: a value that is not allowed.
        """
        skip = str(conf.get("skip_trainers", "false")).strip().lower()
        if skip not in _TRUE_OR_FALSE:
            raise OptionsError(f"--conf skip_trainers must be true or false, not {skip!r:.40}.")
        unread = tuple(name for name in conf if name not in ("models", "skip_trainers"))
        return cls(str(conf.get("models", _ALL)), _TRUE_OR_FALSE[skip], unread)

    def choose_models(self, offered: Collection[str]) -> list[str]:
        """Those of ``offered`` that are named, in their order there.

        Raises:
            OptionsError: a name that is none of them, or no name at all.
        """
        named = [name.strip() for name in self.models.split(",") if name.strip()]
        unknown = [name for name in named if name not in (_ALL, *offered)]
        if unknown or not named:
            what = f"There is no model {unknown[0]!r:.60} here" if unknown else "--conf models names no model"
            raise OptionsError(f"{what}: give --conf models {_ALL}, or some of {', '.join(offered)}, separated by commas.")
        return [name for name in offered if _ALL in named or name in named]
