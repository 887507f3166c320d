"""Pack what the networks of scripts/research/training_queue are trained and validated on into one small file.

python scripts/research/pack_stacks.py --studies out/acdc --out out/acdc.zip
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from prato.data.atomic import make_folder
from prato.data.cases import load_training_cases
from prato.data.studies.folder import find_labelled_studies
from prato.data.studies.splits import load_split
from prato.training.slice_bank import save_packed
from scripts.common.paths import ACDC_SPLIT, check_writable
from scripts.common.refusals import refuses_in_one_sentence

#: In-plane resolution (mm) that the queue's networks are trained at.
PIXEL = 1.375


@refuses_in_one_sentence
def main(
    studies: Annotated[Path, typer.Option(help="Studies folder with labels/final.")],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    split: Annotated[Path, typer.Option(help="Split file: the patients of both sides are packed.")] = ACDC_SPLIT,
    pixel: Annotated[float, typer.Option(min=0.1, help="In-plane resolution, mm.")] = PIXEL,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Quality of the WebP slices.")] = 91,
) -> None:
    """Slices as lossy WebP, labels as PNG."""
    check_writable(out, is_folder=False)
    sides = load_split(split)
    wanted = {*sides.train, *sides.validation}
    files = [file for file in find_labelled_studies(studies) if file.patient in wanted]
    loaded, left_out = load_training_cases(tqdm(files, unit="study", mininterval=1.0), pixel)
    for name, reason in left_out.items():
        typer.echo(f"{name} is left out: {reason}", err=True)
    if not loaded:
        raise ValueError(f"{studies} holds no labelled study of the patients in {split}.")
    make_folder(out.parent)
    save_packed(out, [case for _, case in loaded], quality)
    typer.echo(f"{len(loaded)} studies, {out.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    typer.run(main)
