"""Data sets of nnU-Net v2: ``dataset.json``, ``imagesTr/<case>_0000.nii.gz``, ``labelsTr/<case>.nii.gz``, ``splits_final.json``.

Source: https://github.com/MIC-DKFZ/nnUNet, documentation/reference/dataset-format.md.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from prato.data.atomic import write_bytes
from prato.data.image_files import ENDINGS, write_exact
from prato.data.structures import BACKGROUND, STRUCTURES
from prato.data.studies.folder import MANIFEST_NAME, Manifest, ManifestError, Study, load_manifest, patient_of, save_manifest
from prato.data.studies.splits import Split, split_folds
from prato.exchange.cases import Case, FolderError, Reader, read_case
from prato.exchange.final_labels import FinalLabels, Progress
from prato.exchange.staging import move_into_place, remove_abandoned_files, staging_folder

NAME = "nnU-Net"
ENDING = ".nii.gz"
#: Of cross-validation, as nnU-Net itself makes.
FOLDS = 5
_FOLDER = re.compile(r"Dataset(\d{3})_\S+")
_DESCRIPTION, _SPLITS, _CHANNEL = "dataset.json", "splits_final.json", "_0000"


def is_dataset_name(name: str) -> bool:
    """Whether nnU-Net would find a folder of that ``name`` in its folder nnUNet_raw."""
    return _FOLDER.fullmatch(name) is not None


def export_nnunet(labels: FinalLabels, target: Path, split: Split | None, progress: Progress) -> list[str]:
    """Write the studies of ``labels`` as an nnU-Net data set; returns the exported studies.

    Names of structures and their values are our own, background first. Patients stay together in ``splits_final.json``: five folds, or one
    where a ``split`` is given. ``manifest.json`` says which cases are one patient; nnU-Net leaves it alone.

    Args:
        target: a new or empty folder, such as ``nnUNet_raw/Dataset027_Heart``.

    Raises:
        FolderError: ``target`` is not empty, no label can be used, or the split leaves one side empty; nothing has been written.
        OSError: ``target`` cannot be written to; nothing has been written.
    """
    require_empty(target)
    studies = labels.usable(progress)
    if not studies:
        raise FolderError(["None of the final labels can be exported.", *labels.left_out.values()])
    about = {study: labels.about[study] for study in studies}
    splits = _splits(about, split)
    with staging_folder(target) as staged:
        for name in ("imagesTr", "labelsTr"):
            (staged / name).mkdir()
        for study in progress(studies, "writing"):
            final = labels.read(study)
            write_exact(staged / "imagesTr" / f"{study}{_CHANNEL}{ENDING}", final.image.array, final.image.affine)
            write_exact(staged / "labelsTr" / f"{study}{ENDING}", final.label, final.image.affine)
        names = ["imagesTr", "labelsTr", MANIFEST_NAME]
        if splits:
            _write_json(staged / _SPLITS, splits)
            names.append(_SPLITS)
        save_manifest(staged, Manifest(source=NAME, studies=about))
        _write_json(staged / _DESCRIPTION, _describe(target.name, len(studies)))
        move_into_place(staged, target, [*names, _DESCRIPTION])
    return studies


def require_empty(target: Path) -> None:
    """Refuse a folder for an export that is none, or that holds something.

    Raises:
        FolderError: saying so.
    """
    if target.exists() and not target.is_dir():
        raise FolderError([f"{target} is a file: give a new folder."])
    remove_abandoned_files(target)
    if target.is_dir() and os.listdir(target):
        raise FolderError([f"{target} is not empty: give a new folder, so that no old file becomes part of the export."])


def find_cases(source: Path, convention: Mapping[str, str] | None = None) -> list[Reader]:
    """The cases of the data set ``source``: those of ``imagesTr`` with their labels, those of ``imagesTs`` without.

    Args:
        convention: value -> structure, where ``dataset.json`` does not say it.

    Raises:
        FolderError: no nnU-Net v2 data set of one channel, or files are missing.
    """
    about = _read_description(source)
    ending, names = about["file_ending"], convention or _label_names(about["labels"])
    images = {folder: _images(source / folder, ending) for folder in ("imagesTr", "imagesTs")}
    faults = [
        f"labelsTr/{case}{ending} is missing." for case in images["imagesTr"] if not (source / "labelsTr" / f"{case}{ending}").is_file()
    ]
    if about.get("numTraining", len(images["imagesTr"])) != len(images["imagesTr"]):
        faults.append(
            f"{_DESCRIPTION} counts {about['numTraining']} training cases, and imagesTr holds {len(images['imagesTr'])}: copy it again."
        )
    faults += [f"The case {case} is both in imagesTr and in imagesTs." for case in sorted({*images["imagesTr"]} & {*images["imagesTs"]})]
    if faults:
        raise FolderError(faults)
    try:
        manifest = load_manifest(source)
    except ManifestError as error:
        raise FolderError([str(error)]) from error

    def read(folder: str, case: str) -> Iterator[Case]:
        study = manifest.studies[case] if manifest and case in manifest.studies else Study(patient=patient_of(case, None))
        mask = source / "labelsTr" / f"{case}{ending}" if folder == "imagesTr" else None
        yield read_case(case, study, source, images[folder][case], mask, names)

    return [partial(read, folder, case) for folder, cases in images.items() for case in cases]


def _describe(name: str, count: int) -> dict[str, Any]:
    return {
        "channel_names": {"0": "cine MRI"},
        "labels": {"background": BACKGROUND, **STRUCTURES},
        "numTraining": count,
        "file_ending": ENDING,
        "name": name,
        "description": "Short-axis cardiac cine MRI with the final labels of PrATo Label",
    }


def _splits(studies: Mapping[str, Study], split: Split | None) -> list[dict[str, list[str]]]:
    """Of cases, by patient; none where there is one patient alone."""
    patients = {study.patient for study in studies.values()}
    folds = [split] if split is not None else split_folds(patients, FOLDS, seed=0) if len(patients) > 1 else []
    found = []
    for fold in folds:
        sides = {"train": set(fold.train), "val": set(fold.validation)}
        cases = {side: sorted(case for case, study in studies.items() if study.patient in own) for side, own in sides.items()}
        for side, own in cases.items():
            if not own:
                raise FolderError(
                    [f"The split leaves no exported study for {'training' if side == 'train' else 'validation'}: give another."]
                )
        found.append(cases)
    return found


def _write_json(path: Path, value: Any) -> None:
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def _read_description(source: Path) -> dict[str, Any]:
    path = source / _DESCRIPTION
    try:
        about = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FolderError([f"{source} has no {_DESCRIPTION}: give the folder of one nnU-Net data set, such as Dataset027_Heart."]) from None
    except (OSError, ValueError, RecursionError) as error:
        raise FolderError([f"{path} cannot be read as JSON: copy the data set again."]) from error
    if not isinstance(about, dict) or not isinstance(about.get("labels"), dict) or not isinstance(about.get("channel_names"), dict):
        raise FolderError(
            [f"{path} has no channel_names and labels, as nnU-Net v2 has them: convert it with nnUNetv2_convert_old_nnUNet_dataset."]
        )
    if "dataset" in about:
        raise FolderError([f"{path} lists its files itself: put them into imagesTr and labelsTr."])
    if len(about["channel_names"]) != 1:
        raise FolderError(
            [f"{path} names {len(about['channel_names'])} channels, and a study is one image: give a data set of one channel."]
        )
    if about.get("file_ending") not in ENDINGS:
        raise FolderError([f"{path} has the file_ending {about.get('file_ending')!r:.40}, which is not one of {', '.join(ENDINGS)}."])
    return about


def _label_names(labels: Mapping[str, Any]) -> dict[str, int]:
    """Name -> value; a region of several values names none of them."""
    names = {name: value for name, value in labels.items() if type(value) is int}
    wrong = next((name for name, value in names.items() if (value == 0) != (name.lower() == "background")), None)
    if wrong is not None:
        value = f"{names[wrong]!s:.20}"
        raise FolderError(
            [f"{_DESCRIPTION} gives {wrong!r:.40} the value {value}: in nnU-Net's data sets 0 is the background, nothing else."]
        )
    return names


def _images(folder: Path, ending: str) -> dict[str, Path]:
    """The images in ``folder`` by case, sorted; none where there is no such folder."""
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    tail = f"{_CHANNEL}{ending}"
    if tail in names:
        raise FolderError([f"{folder.name}/{tail} has no case's name: rename it, and its label."])
    strangers = [name for name in names if name.endswith(ending) and not name.endswith(tail) and not name.startswith(".")]
    if strangers:
        raise FolderError([f"{folder.name}/{strangers[0]} does not end in {tail}, as the only channel of a case does."])
    return {name.removesuffix(tail): folder / name for name in names if name.endswith(tail) and not name.startswith(".")}
