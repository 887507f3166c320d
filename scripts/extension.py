"""The 3D Slicer extension: its sample data, and the repository of its own that Slicer's Extension Index builds it from."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path, PurePosixPath
from typing import Annotated

import numpy as np
import typer
from matplotlib.figure import Figure

from prato.data.nifti import write_volume
from prato.data.structures import COLOURS, STRUCTURES
from prato.phantom.frames import Phantom, make_phantom
from scripts.common.paths import ROOT
from scripts.common.refusals import refuse_target

#: This repository, where the extension's pages lead to for what is said of the server.
PROJECT = "https://github.com/prato-label/prato-label"
MODULE = "slicer_module/PratoLabel"
SAMPLE = "PratoLabelPhantomHeart"
#: Pages by their place here -> in the extension's repository.
PAGES = {"slicer_module/README.md": "README.md", "docs/slicer.md": "docs/slicer.md", "docs/tutorial.md": "docs/tutorial.md"}
_LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)(#[^)]*)?\)")

app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def samples() -> None:
    """Write the generated heart that Slicer's Sample Data module offers, and its picture, into the module's Resources."""
    phantom, resources = make_phantom(seed=0, number=1), ROOT / MODULE / "Resources"
    for folder in ("SampleData", "Icons"):
        (resources / folder).mkdir(parents=True, exist_ok=True)
    for phase, image in phantom.images.items():
        write_volume(resources / "SampleData" / f"phantom001_{phase}.nii.gz", image, phantom.affine)
    _draw(phantom, resources / "Icons" / f"{SAMPLE}.png")


@app.command()
def export(target: Annotated[Path, typer.Argument(metavar="DST", help="A new folder, or one that holds nothing but .git.")]) -> None:
    """Write the extension's own repository: the module, its pages and their pictures, without the server and its weights.

    The Index takes repositories of at most 100 MB, history included, whose names begin with "Slicer".
    """
    if target.exists() and not (target.is_dir() and {path.name for path in target.iterdir()} <= {".git"}):
        typer.echo(f"{target} is not empty: give a new folder, or a clone from which all files but .git are removed.", err=True)
        raise typer.Exit(2)
    try:
        _write(target)
    except OSError as error:
        raise refuse_target(target, error) from None


def _write(target: Path) -> None:
    texts = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
    pictures = {_resolve(page, link) for page, text in texts.items() for link, _ in _LINK.findall(text) if link.endswith(".png")}
    copied = {**PAGES, **{name: name for name in ("CMakeLists.txt", "PratoLabel.json", "LICENSE", *sorted(pictures))}}
    for source, name in copied.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if source in texts:
            (target / name).write_text(_relink(texts[source], source, copied), encoding="utf-8")
        else:
            shutil.copyfile(ROOT / source, target / name)
    shutil.copytree(ROOT / MODULE, target / MODULE, ignore=shutil.ignore_patterns("__pycache__"))


def _resolve(page: str, link: str) -> str:
    """Where the relative ``link`` of ``page`` leads to, from the root of this repository."""
    return PurePosixPath(os.path.normpath(PurePosixPath(page).parent / link)).as_posix()


def _relink(text: str, page: str, copied: dict[str, str]) -> str:
    """``text`` of ``page`` with links that fit its new place; to what is not ``copied`` they lead into this repository."""

    def relink(link: re.Match[str]) -> str:
        aim, anchor = _resolve(page, link[1]), link[2] or ""
        if aim not in copied:
            return f"]({PROJECT}/blob/main/{aim}{anchor})"
        return f"]({PurePosixPath(os.path.relpath(copied[aim], PurePosixPath(copied[page]).parent)).as_posix()}{anchor})"

    return _LINK.sub(relink, text)


def _draw(phantom: Phantom, path: Path) -> None:
    """The picture on the button of the sample: the middle slice in both phases, the structures outlined in the second. 260 x 280 pixels."""
    figure = Figure(figsize=(2.6, 2.8), dpi=100, facecolor="black")
    for axis, (phase, image) in zip(figure.subplots(2, 1), phantom.images.items()):
        k = image.shape[2] // 2
        mask = phantom.labels[phase][:, :, k]
        centre = np.argwhere(mask).mean(axis=0).astype(int)
        low, high = np.percentile(image[:, :, k], (1, 99.7))
        axis.imshow(image[:, :, k].T, cmap="gray", vmin=low, vmax=high)
        for structure, value in STRUCTURES.items():
            axis.contour((mask == value).T, levels=[0.5], colors=[COLOURS[structure]], linewidths=1.2)
        axis.set(xlim=(centre[0] - 56, centre[0] + 56), ylim=(centre[1] + 29, centre[1] - 29))
        axis.text(0.04, 0.08, phase, color="white", transform=axis.transAxes, bbox={"facecolor": "black", "pad": 1.5})
        axis.set_axis_off()
    figure.subplots_adjust(0, 0, 1, 1, hspace=0.02)
    figure.savefig(path, facecolor="black")


if __name__ == "__main__":
    app()
