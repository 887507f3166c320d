"""Labels in a studies folder, without a server: import and check them, list, compare and restore versions, and how far annotators agree."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from tqdm import tqdm

from prato.data.atomic import first_line, write_bytes
from prato.data.cases import load_training_cases
from prato.data.labels.names import CONVENTIONS, read_convention, read_segment_names
from prato.data.studies.folder import ENDINGS, find_files, find_labelled_studies, printed, require_folder
from prato.data.wording import counted
from prato.dicom.labels.importing import FoundDicomMasks, find_dicom_masks, import_dicom_mask
from prato.evaluation.agreement import folder_agreement, label_diff, study_agreement
from prato.labelling.files import list_labelled_studies
from prato.labelling.importing import import_mask
from prato.labelling.mask_files import find_images, match_masks
from prato.labelling.records import UNKNOWN, State, Version
from prato.labelling.restoring import restore
from prato.labelling.trusted import find_trusted_phases
from prato.labelling.versions import LabelVersions
from prato.models.registry import PIXEL
from scripts.common.paths import check_writable
from scripts.common.provenance import command, commit
from scripts.common.tables import print_table

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
#: Of what the values of the labels mean, by ``CheckedLabel.source``: how a sentence about one begins, and about several, and how it ends.
_SOURCES = {
    "names": ("label has names for its values, or was", "labels have names for their values, or were", "stored by a server of this app."),
    "anatomy": ("label has", "labels have", "no names, but the positions of structures show that the values are the standard ones."),
    "guess": ("label does not show its numbering, and is", "labels do not show theirs, and are", "assumed to be numbered like the others."),
}
Studies = Annotated[Path, typer.Argument(metavar="STUDIES", help="The studies folder.")]
Name = Annotated[str, typer.Argument(metavar="STUDY", help="A study's name, without .nii.gz.")]


@app.command("list")
def list_versions(studies: Studies, study: Annotated[str, typer.Argument(metavar="[STUDY]", help="By default all studies.")] = "") -> None:
    """List every version: who, when, its phases' states, from which model and box. The current one is marked."""
    with _refusals():
        names = [study] if study else _list_labelled(studies)
        table = Table("study", "version", "annotator", "stored (UTC)", "origin", "phases", "model", "box")
        for name in names:
            versions, current = _versions(studies, name).list_versions()
            for version in versions:
                table.add_row(name, f"{version.version}{' *' if version == current else ''}", *_describe(version))
    print_table(table)


@app.command()
def diff(
    studies: Studies,
    study: Name,
    old: Annotated[int, typer.Argument(help="Number of the version before.")],
    new: Annotated[int, typer.Argument(help="Number of the version after.")],
) -> None:
    """Show what changed between two versions, by structure and, in a cine, for each phase that changed."""
    with _refusals():
        found = label_diff(_versions(studies, study), old, new)
    phases = found.get("phases", {"": found})
    where = ["phase"] if "phases" in found else []
    table = Table(*where, "structure", "changed voxels", "DSC", "HD95 (mm)", "volume before (ml)", "after (ml)", "change (ml)")
    for number, changes in phases.items():
        for name, change in changes["structures"].items():
            volumes = (f"{ml:.1f}" for ml in change["volume_ml"])
            scores = str(change["changed_voxels"]), f"{change['dice']:.4f}", f"{change['hd95']:.2f}"
            table.add_row(*[number for _ in where], name, *scores, *volumes, f"{change['volume_change_ml']:+.1f}")
    print_table(table)


@app.command("restore")
def restore_version(
    studies: Studies,
    study: Name,
    version: Annotated[int, typer.Argument(help="Number of the older version.")],
    annotator: Annotated[str, typer.Option(help="Who is responsible for it.")] = UNKNOWN,
) -> None:
    """Make a copy of an older version the current label, as a new version. A server that runs on the folder notices."""
    with _refusals():
        image = find_files(studies).files.get(study, studies / f"{study}{ENDINGS[0]}")
        saved = restore(_versions(studies, study), version, image, {"annotator": annotator})
    typer.echo(f"Version {saved.version.version} of {study} is now its label: a copy of version {version}.")


@app.command()
def agreement(
    studies: Studies,
    study: Annotated[str, typer.Argument(metavar="[STUDY]", help="All studies without it.")] = "",
    out: Annotated[Path | None, typer.Option(help="Also write a JSON file here.")] = None,
) -> None:
    """Show DSC and HD95 (mm) between the latest versions of every two annotators, by structure."""
    with _refusals():
        if out is not None:
            check_writable(out, is_folder=False)
        if study:
            found: dict[str, Any] = study_agreement(_versions(studies, study))
            images = [found]
        else:
            _list_labelled(studies)
            found = folder_agreement(studies, progress=lambda names: tqdm(names, unit="study"))
            images = found["images"]
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(out, (json.dumps({"commit": commit(), "command": command(), **found}, indent=1) + "\n").encode())
    table = Table("study", "annotators", "structure", "DSC", "HD95 (mm)")
    rows = [
        (
            f"{image['image']} phase {pair['phase']}" if "phase" in pair else image["image"],
            " / ".join(pair["annotators"]),
            pair["structures"],
        )
        for image in images
        for pair in image["pairs"]
    ]
    if found.get("structures"):
        rows.append(("mean", f"{found['pairs']} pairs", found["structures"]))
    for name, who, structures in rows:
        for structure, scores in structures.items():
            table.add_row(name, who, structure, f"{scores['dice']:.4f}", f"{scores['hd95']:.2f}")  # as replies round them
    if rows:
        print_table(table)
    else:
        typer.echo("No study here was labelled by two annotators.")
    for reason in found.get("left_out", {}).values():
        typer.echo(reason, err=True)


@app.command("import")
def import_masks(
    studies: Studies,
    masks: Annotated[
        Path,
        typer.Argument(
            help="Folder of masks, each named like its study, or a phase of it (x_frame08), with or without a word such as _gt; and of "
            "DICOM SEG and RTSTRUCT, of any name."
        ),
    ],
    convention: Annotated[
        str | None,
        typer.Option(
            help=f"What the masks' values mean: {', '.join(CONVENTIONS)}, or a JSON file: value -> name. DICOM and .seg.nrrd name them."
        ),
    ] = None,
    names: Annotated[
        Path | None,
        typer.Option(help='What segments in DICOM and .seg.nrrd are, whose names are unknown; a JSON file: {"LA": "background"}.'),
    ] = None,
    annotator: Annotated[str, typer.Option(help="Who is responsible for them.")] = UNKNOWN,
    accept_proposals: Annotated[
        bool,
        typer.Option("--accept-proposals", help="Accept masks and phases that still equal the model's proposal: they count as drawn."),
    ] = False,
) -> None:
    """Store a folder of masks as the studies' labels, checked one by one. Exit code 1: some are left out; 2: none could be looked at."""
    with _refusals():
        values = None if convention is None else read_convention(convention)
        renamed = {} if names is None else read_segment_names(names)
        images = find_images(studies)
        found = match_masks(masks, images)
        nameless = [path.name for path in found.files.values() if not path.name.endswith(".seg.nrrd")]
        if values is None and nameless:
            raise ValueError(f"Nothing says what the values of {printed(min(nameless))} mean: name their convention with --convention.")

    def named(path: Path) -> str:  # files of several patients may have one name
        return printed(str(path.relative_to(masks)))

    dicom = find_dicom_masks(
        tqdm(found.dicom, unit="file", mininterval=1.0, disable=not found.dicom), studies, images, found.files, renamed
    )
    left_out = [*found.strangers.items(), *dicom.left_out]
    stores: list[tuple[tuple[Path, ...], Callable[..., dict[int, State]]]] = [
        ((path,), partial(import_mask, images[owner.study], owner, path, values, renamed=renamed)) for owner, path in found.files.items()
    ]
    stores += [(mask.paths, partial(import_dicom_mask, images[mask.study], mask)) for mask in dicom.masks]
    stored = unchanged = 0
    proposed: Counter[Path] = Counter()
    for paths, store in tqdm(sorted(stores, key=lambda one: one[0]), unit="mask", mininterval=1.0):
        try:
            states = store({"annotator": annotator, "imported_from": ", ".join(path.name for path in paths)}, accept_proposals)
        except (ValueError, OSError) as error:
            left_out += [(path, first_line(error)) for path in paths]
        else:
            stored, unchanged = stored + bool(states), unchanged + (not states)
            proposed[paths[0]] += list(states.values()).count("proposed")
    if not stores and not left_out:
        typer.echo(f"{masks} holds no mask: its {dicom.others} DICOM files are images or reports.", err=True)
        raise typer.Exit(2)
    before = f", {counted(unchanged, 'was', 'were')} there already" if unchanged else ""
    typer.echo(f"{counted(stored, 'label is', 'labels are')} stored{before}.")
    _tell(dicom, named)
    for path, count in sorted(proposed.items()):
        if count:
            still = counted(count, f"phase of {named(path)} still equals", f"phases of {named(path)} still equal")
            typer.echo(f"{still} the model's proposal and will not be trained on.")
    for path, reason in sorted(left_out):
        typer.echo(f"{named(path)} is left out: {reason}", err=True)
    if left_out:
        raise typer.Exit(1)


@app.command()
def check(studies: Studies) -> None:
    """Show which labels training would use now, and why it would leave others out. Exit code 1: some would be left out."""
    with _refusals():
        files = find_labelled_studies(studies)
        if not files:
            raise ValueError(f"{studies} has no labels: name a studies folder, whose labels lie in its folder labels/final.")
        trusted, untrusted = find_trusted_phases(files)
        loaded, left_out = load_training_cases(tqdm(trusted, unit="label", mininterval=1.0), PIXEL)
        left_out |= untrusted
    studied = counted(len({file.image for file, _ in loaded}), "study", "studies")
    typer.echo(f"Training would use {counted(len(loaded), 'label')}, of {studied}.")
    sources: Counter[str] = Counter(case.source for _, case in loaded)
    for source, (one, many, rest) in _SOURCES.items():
        if sources[source]:
            typer.echo(f"{counted(sources[source], one, many)} {rest}")
    for study, reason in left_out.items():
        typer.echo(f"{study} is left out: {reason}", err=True)
    if left_out:
        raise typer.Exit(1)


def _tell(dicom: FoundDicomMasks, named: Callable[[Path], str]) -> None:
    if dicom.others:
        typer.echo(f"{counted(dicom.others, 'DICOM file holds', 'DICOM files hold')} no label, as images and reports do not.")
    automatic = sum(mask.is_automatic for mask in dicom.masks)
    if automatic:
        made = counted(automatic, "of the DICOM labels was", "of the DICOM labels were")
        typer.echo(f"{made} made by a program, as stated there (AUTOMATIC); such labels count as drawn, so check them.")
    for path, by in sorted(dicom.replaced.items()):
        typer.echo(f"{named(path)} is not imported: {named(by)} takes its place, as that one says.")


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError) as error:
        typer.echo(first_line(error), err=True)
        raise typer.Exit(2) from None


def _list_labelled(studies: Path) -> list[str]:
    names = list_labelled_studies(require_folder(studies))
    if not names:
        raise ValueError(f"{studies} has no labels: name a studies folder, whose labels lie in its folder labels/final.")
    return names


def _versions(studies: Path, study: str) -> LabelVersions:
    versions = LabelVersions(studies, study)
    if study not in _list_labelled(studies):
        raise ValueError(f"{studies} has no label of {study!r:.80}: the command list shows those that it has.")
    return versions


def _describe(version: Version) -> tuple[str, ...]:
    origin = version.origin if version.restored_from is None else f"{version.origin} from {version.restored_from}"
    model = " ".join(str(version.params[key]) for key in ("model", "model_version") if key in version.params)
    fate = "".join(f", removed by {removal.annotator} {removal.removed:%Y-%m-%d %H:%M}" for removal in version.removals)
    states = Counter(phase.state for phase in version.phases.values())
    phases = ", ".join(f"{count} {state}" for state, count in states.items())
    return version.annotator, f"{version.created:%Y-%m-%d %H:%M}", origin + fate, phases, model, str(version.params.get("box", ""))


if __name__ == "__main__":
    app()
