"""The history of a model file, and roll-back to an older version, without a server; a running server follows."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from prato.retraining.model_store import ModelStore, UnknownVersionError
from scripts.common.model_files import model_file
from scripts.common.refusals import refuses_in_one_sentence
from scripts.common.tables import print_table

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
Model = Annotated[str, typer.Argument(help="A shipped model's name or a model file.")]


@app.command("list")
@refuses_in_one_sentence
def show(model: Model) -> None:
    """List every version that was trained, uploaded or rolled back to, oldest first."""
    store = ModelStore(model_file(model))
    records = store.history()
    table = Table(title=store.model.stem)
    for column in ("when", "version", "from", "how", "published", "kept", "why"):
        table.add_column(column)
    for r in records:
        kept = r.published and store.file(r.version).is_file()
        table.add_row(r.when, r.version, r.parent or "", r.kind, *("yes" if it else "no" for it in (r.published, kept)), r.reason)
    print_table(table)


@app.command()
@refuses_in_one_sentence
def rollback(model: Model, version: Annotated[str, typer.Argument(help="A version that is kept.")]) -> None:
    """Roll back to an older version."""
    try:
        record = ModelStore(model_file(model)).roll_back(version)
    except UnknownVersionError as error:
        raise ValueError(error) from error
    typer.echo(f"{record.version} answers, {record.parent} is kept")


if __name__ == "__main__":
    app()
