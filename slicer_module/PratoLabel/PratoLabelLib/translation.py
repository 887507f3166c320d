"""What a labeller reads, in the language that 3D Slicer is set to; in English where the client runs without 3D Slicer."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable

_PLACEHOLDER = re.compile(r"{.*?}")


def translator(file: str) -> Callable[[str], str]:
    """What ``_`` is in the Python file ``file``: Slicer's ``tr``, with the file's context, for any thread (as Qt's own ``translate``).

    The ``tr`` of 3D Slicer 5.6 finds the context anew by a walk through the whole stack, at every call: too slow for a panel that is
    refreshed at every change. And it takes translations that cannot be filled in.
    """

    @functools.cache
    def context() -> str:
        return str(sys.modules["slicer.i18n"].getContext(file))

    def tr(text: str) -> str:
        i18n = sys.modules.get("slicer.i18n")
        translated = text if i18n is None else str(i18n.translate(context(), text))
        is_like = sorted(_PLACEHOLDER.findall(translated)) == sorted(_PLACEHOLDER.findall(text))
        return translated if is_like else text

    return tr
