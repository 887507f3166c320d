"""Command lines of scripts that run where typer is not installed: what they refuse, they refuse in one sentence, with exit code 2."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from prato.data.atomic import first_line
from scripts.common.results import check_table

#: The largest seed, as in a request to train: torch takes none of more than 64 bits, and programs add to theirs.
MAX_SEED = 2**31 - 1


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """The description as it is written, and behind each option's help its default, where it has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False) else super()._get_help_string(action)


def positive_int(text: str) -> int:
    """A whole number of at least 1."""
    number = int(text) if text.lstrip("+").isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return number


def positive_float(text: str) -> float:
    """A number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not number > 0:
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text!r}")
    return number


def table_file(text: str) -> Path:
    """A CSV file of results that rows can be added to, or a place for one: said before hours of work rather than after them."""
    try:
        return check_table(Path(text))
    except (ValueError, OSError) as error:
        raise argparse.ArgumentTypeError(first_line(error)) from None


@contextmanager
def refused_in_one_sentence(parser: argparse.ArgumentParser) -> Iterator[None]:
    """What cannot be read in this block ends the program with the reason; nothing has been written by then."""
    try:
        yield
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {first_line(error)}\n")


def read_sides(path: Path, sides: Sequence[str]) -> dict[str, list[str]]:
    """The patients on each of ``sides`` of a split file, of two sides or of three; it is read without pydantic, unlike a ``Split``.

    Raises:
        ValueError: it is no split file, or lacks one of them. OSError: it cannot be read.
    """
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        return {side: [str(patient) for patient in read[side]] for side in sides}
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is not a split file with {' and '.join(sides)}: name one such as docs/results/acdc_split.json.") from None
