"""What the scripts for other people's folders print, and how they end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import typer
from tqdm import tqdm

from prato.data.wording import counted, studies_of
from prato.exchange.cases import FolderError
from prato.exchange.importing import Summary
from scripts.common.refusals import refuse_target

T = TypeVar("T")


def show_progress(unit: str) -> Callable[[Sequence[T], str], Iterable[T]]:
    """A progress bar that counts in ``unit``."""
    return lambda items, what: tqdm(items, desc=what, unit=unit, mininterval=1.0)


@contextmanager
def refusals(target: Path) -> Iterator[None]:
    """Exit code 2, and a line for each reason, where the block refuses; ``target`` is what it writes to."""
    try:
        yield
    except FolderError as error:
        for fault in error.faults:
            typer.echo(fault, err=True)
    except ValueError as error:
        typer.echo(str(error).splitlines()[0], err=True)
    except OSError as error:
        raise refuse_target(target, error) from None
    else:
        return
    raise typer.Exit(2)


def show_import(summary: Summary, target: Path) -> None:
    """What an import did."""
    labels = f"{summary.labels or 'none'} of them with a label"
    if summary.studies == 1:
        labels = "with a label" if summary.labels else "without a label"
    typer.echo(f"{studies_of(summary.studies, len(summary.patients))} in {target}, {labels}: {counted(summary.written, 'new file')}.")
    for warning in summary.warnings:
        typer.echo(f"Warning: {warning}", err=True)
    if summary.kept_labels:
        names = ", ".join(summary.kept_labels)
        many = f"labels in {target} differ from those imported and were left as they are"
        kept = counted(len(summary.kept_labels), f"label in {target} differs from that imported and was left as it is", many)
        typer.echo(f"{kept}: {names}", err=True)


def show_export(written: Sequence[str], left_out: Mapping[str, str], target: Path) -> None:
    """What an export did; exit code 1 where labels were left out."""
    verb, images = ("is", "its image") if len(written) == 1 else ("are", "their images")
    typer.echo(f"{counted(len(written), 'final label')} {verb} in {target}, with {images}.")
    for study, reason in sorted(left_out.items()):
        typer.echo(f"{study} is left out: {reason}", err=True)
    if left_out:
        raise typer.Exit(1)
