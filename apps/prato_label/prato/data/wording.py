"""Numbers, numbers of things, and what is wrong with a file, in words."""

from __future__ import annotations

from collections.abc import Collection

from pydantic import ValidationError


def counted(number: int, one: str, many: str = "") -> str:
    """``1 study``, ``2 studies``: ``many`` is the plural, by default ``one`` with an s."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def studies_of(studies: int, patients: int) -> str:
    """``2 studies of 1 patient are``, to go on from."""
    return f"{counted(studies, 'study', 'studies')} of {counted(patients, 'patient')} {'is' if studies == 1 else 'are'}"


def span(values: Collection[float]) -> str:
    """``0.52 to 1.37``: the least and the largest of ``values``."""
    return f"{min(values):.2f} to {max(values):.2f}"


def first_fault(error: ValidationError) -> str:
    """What is wrong with a file of JSON or YAML, and where in it, if anywhere: the first of all faults.

    ``studies.p1_4d.height_cm: Input should be a valid number``
    """
    first = error.errors()[0]
    return ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, "))))
