"""Numbers of things, in words."""

from __future__ import annotations


def counted(number: int, one: str, many: str = "") -> str:
    """``1 study``, ``2 studies``: ``many`` is the plural, by default ``one`` with an s."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def studies_of(studies: int, patients: int) -> str:
    """``2 studies of 1 patient are``, to go on from."""
    return f"{counted(studies, 'study', 'studies')} of {counted(patients, 'patient')} {'is' if studies == 1 else 'are'}"
