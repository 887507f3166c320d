"""What the panel says, in the language that 3D Slicer is set to."""

from __future__ import annotations

import re
from collections.abc import Callable

from slicer.i18n import getContext, translate

_PLACEHOLDER = re.compile(r"{.*?}")


def translator(file: str) -> Callable[[str], str]:
    """What ``_`` is in the Python file ``file``: Slicer's ``tr``, with the file's context.

    The ``tr`` of 3D Slicer 5.6 finds the context anew by a walk through the whole stack, at every call: too slow for a panel that is
    refreshed at every change. And it takes translations that cannot be filled in.
    """
    context = getContext(file)

    def tr(text: str) -> str:
        translated = str(translate(context, text))
        is_like = sorted(_PLACEHOLDER.findall(translated)) == sorted(_PLACEHOLDER.findall(text))
        return translated if is_like else text

    return tr
