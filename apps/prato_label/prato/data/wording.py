"""Numbers, and numbers of things, in words."""

from __future__ import annotations

from collections.abc import Collection


def counted(number: int, one: str, many: str = "") -> str:
    """``1 study``, ``2 studies``: ``many`` is the plural, by default ``one`` with an s."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def studies_of(studies: int, patients: int) -> str:
    """``2 studies of 1 patient are``, to go on from."""
    return f"{counted(studies, 'study', 'studies')} of {counted(patients, 'patient')} {'is' if studies == 1 else 'are'}"


def span(values: Collection[float]) -> str:
    """``0.52 to 1.37``: the least and the largest of ``values``."""
    return f"{min(values):.2f} to {max(values):.2f}"
