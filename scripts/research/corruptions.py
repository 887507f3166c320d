"""Dice of a model on validation images with defined corruptions, through the predictor that the server answers with.

python scripts/research/corruptions.py --studies out/acdc --split docs/results/acdc_split.json --out docs/results/corruptions.csv
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from monai.transforms import AdjustContrast
from scipy import ndimage
from tqdm import tqdm

from prato.data.cases import read_label
from prato.data.nifti import Volume, read_volume
from prato.data.structures import NUM_CLASSES
from prato.data.studies.folder import StudyFile
from prato.data.view import network_view
from prato.evaluation.box_conditions import BoxCondition, seeded_rng
from prato.evaluation.evaluate import evaluate_volume
from prato.inference.predictor import Predictor
from prato.models.registry import DEFAULT_MODEL
from prato.prompts.box import Box
from prato.runtime.devices import default_device, device_name, find_device
from scripts.common.labelled import require_labelled_studies
from scripts.common.model_files import locator_file, model_file, model_name
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import Row, replace_rows

#: A stack (X, Y, Z) and its label, spoilt; what is random comes from the generator.
Corruption = Callable[[Volume, np.ndarray, np.random.Generator], tuple[Volume, np.ndarray]]
#: Beyond so many mm from a contour it no longer counts how far it is, when two slices become one.
_NEAR_MM = 10.0


def gamma(exponent: float, volume: Volume, label: np.ndarray, rng: np.random.Generator) -> tuple[Volume, np.ndarray]:
    """Grey values, scaled to 0..1 between the image's least and largest, to the power of ``exponent``."""
    bent = AdjustContrast(gamma=exponent)(torch.from_numpy(floats(volume)))
    return Volume(np.asarray(bent, dtype=np.float32), volume.affine), label


def bias_field(volume: Volume, label: np.ndarray, rng: np.random.Generator) -> tuple[Volume, np.ndarray]:
    """A random polynomial of the third degree in both in-plane directions, from -50 % to +50 %; the same on all slices."""
    rows, columns = (np.polynomial.legendre.legvander(np.linspace(-1, 1, n), 3) for n in volume.array.shape[:2])
    coefficients = rng.uniform(-1, 1, (4, 4)) * (np.add.outer(np.arange(4), np.arange(4)) <= 3)
    coefficients[0, 0] = 0
    field = rows @ coefficients @ columns.T
    field = 2 * (field - field.min()) / np.ptp(field) - 1
    return Volume(floats(volume) * (1 + 0.5 * field[..., None]).astype(np.float32), volume.affine), label


def noise(share: float, volume: Volume, label: np.ndarray, rng: np.random.Generator) -> tuple[Volume, np.ndarray]:
    """Gaussian noise with a standard deviation of ``share`` of the 99th percentile."""
    sigma = share * np.percentile(volume.array, 99)
    return Volume((floats(volume) + rng.normal(0, sigma, volume.array.shape)).astype(np.float32), volume.affine), label


def blur(mm: float, volume: Volume, label: np.ndarray, rng: np.random.Generator) -> tuple[Volume, np.ndarray]:
    """A Gaussian of ``mm`` standard deviation, in plane."""
    sigma = [mm / edge for edge in volume.spacing[:2]]
    return Volume(ndimage.gaussian_filter(floats(volume), (*sigma, 0.0)), volume.affine), label


def coarse_pixels(volume: Volume, label: np.ndarray, rng: np.random.Generator) -> tuple[Volume, np.ndarray]:
    """Pixels of 2.5 mm, each the mean of what it covers; the label likewise, each pixel the structure that covers most of it."""
    size = [max(1, round(n * mm / 2.5)) for n, mm in zip(volume.array.shape, volume.spacing[:2])]
    affine = volume.affine.copy()
    for axis in (0, 1):
        affine[:3, axis] *= volume.array.shape[axis] / size[axis]
    affine[:3, 3] += (affine[:3, :2] - volume.affine[:3, :2]).sum(1) / 2  # the corner of the image stays where it is
    one_hot = np.stack([label == value for value in range(NUM_CLASSES)])
    covered = np.stack([_area_mean(part.astype(np.float32), size) for part in one_hot])
    return Volume(_area_mean(floats(volume), size), affine), covered.argmax(0).astype(np.uint8)


def double_thickness(volume: Volume, label: np.ndarray, rng: np.random.Generator) -> tuple[Volume, np.ndarray]:
    """Every two slices become one, their mean; contours lie half-way between the two, by signed distance in plane."""
    pairs = volume.array.shape[2] // 2
    image = floats(volume)[:, :, : 2 * pairs].reshape(*volume.array.shape[:2], pairs, 2).mean(3)
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 2] / 2
    affine[:3, 2] *= 2
    inside = np.stack([_signed_distance(label[:, :, : 2 * pairs] == value, volume.spacing) for value in range(NUM_CLASSES)])
    halfway = inside.reshape(*inside.shape[:3], pairs, 2).mean(4)
    # distances are between pixels' middles, so that many are equal half-way: what lies round a pixel decides there
    halfway = ndimage.gaussian_filter(halfway, (0, 0.7, 0.7, 0))
    return Volume(image, affine), halfway.argmax(0).astype(np.uint8)


def quarter_turn(volume: Volume, label: np.ndarray, rng: np.random.Generator) -> tuple[Volume, np.ndarray]:
    """Turned by 90 degrees in plane: another order of the voxels, at their places."""
    turned = np.rot90(volume.array)
    affine = volume.affine.copy()
    affine[:3, 0], affine[:3, 1] = -volume.affine[:3, 1], volume.affine[:3, 0]
    affine[:3, 3] += volume.affine[:3, 1] * (volume.array.shape[1] - 1)
    return Volume(np.ascontiguousarray(turned), affine), np.ascontiguousarray(np.rot90(label))


def mirrored(volume: Volume, label: np.ndarray, rng: np.random.Generator) -> tuple[Volume, np.ndarray]:
    """Rows in the opposite order, at their places, as converters from DICOM leave them."""
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 1] * (volume.array.shape[1] - 1)
    affine[:3, 1] *= -1
    return Volume(np.ascontiguousarray(volume.array[:, ::-1]), affine), np.ascontiguousarray(label[:, ::-1])


def flipped_slices(volume: Volume, label: np.ndarray, rng: np.random.Generator) -> tuple[Volume, np.ndarray]:
    """The slices in the opposite order, at their places."""
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 2] * (volume.array.shape[2] - 1)
    affine[:3, 2] *= -1
    return Volume(np.ascontiguousarray(volume.array[:, :, ::-1]), affine), np.ascontiguousarray(label[:, :, ::-1])


def cropped(margin_mm: float, volume: Volume, label: np.ndarray, rng: np.random.Generator) -> tuple[Volume, np.ndarray]:
    """Cut in plane to what is labelled, and ``margin_mm`` on all sides as far as the image reaches."""
    heart = Box.around(label)
    assert heart is not None  # labelled studies alone are measured
    margins = [round(margin_mm / mm) for mm in volume.spacing[:2]]
    start = [max(a - margin, 0) for a, margin in zip(heart.start, margins)]
    cut = tuple(slice(a, b + margin) for a, b, margin in zip(start, heart.stop, margins))
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :2] @ start
    return Volume(np.ascontiguousarray(volume.array[cut]), affine), np.ascontiguousarray(label[cut])


CORRUPTIONS: dict[str, Corruption] = {
    "clean": lambda volume, label, rng: (volume, label),
    "gamma 0.5": partial(gamma, 0.5),
    "gamma 2": partial(gamma, 2.0),
    "bias field": bias_field,
    "noise": partial(noise, 0.05),
    "blur": partial(blur, 1.5),
    "pixels of 2.5 mm": coarse_pixels,
    "double thickness": double_thickness,
    "quarter turn": quarter_turn,
    "mirrored": mirrored,
    "slices flipped": flipped_slices,
    "cropped to the heart and 5 mm": partial(cropped, 5.0),
    "cropped to the heart and 20 mm": partial(cropped, 20.0),
}


def check_names(names: Iterable[str], among: Mapping[str, Corruption]) -> None:
    """See that all ``names`` are some of those that there are ``among``.

    Raises:
        ValueError: one of them is not.
    """
    for name in names:
        if name not in among:
            raise ValueError(f"There is no corruption {name!r}: name some of {', '.join(among)}.")


def corrupt(
    name: str, volume: Volume, label: np.ndarray, study: str, among: Mapping[str, Corruption] = CORRUPTIONS
) -> tuple[Volume, np.ndarray]:
    """An image, as networks look at it, and its label under the corruption ``name``; the same for the same ``study``."""
    view = network_view(volume)
    return among[name](view.apply_to(volume), view.apply(label), seeded_rng(name, study))


def measure(predictor: Predictor, files: StudyFile, names: list[str], boxes: list[BoxCondition]) -> list[Row]:
    """The rows of one study: Dice of each structure, by corruption and box."""
    volume = read_volume(files.image)
    label = read_label(files.label, volume)
    rows: list[Row] = []
    for name in names:
        image, truth = corrupt(name, volume, label, files.study)
        for box in boxes:
            found = evaluate_volume(predictor, image, truth, files, box, None, 0)
            if found is not None:
                dice = {structure: round(scores["dice"], 4) for structure, scores in found["scores"].items()}
                row = {"box": box.value, "corruption": name, "study": files.study, "patient": files.patient}
                rows.append({**row, "dice": dice, "mean_dice": round(found["mean_dice"], 4)})
    return rows


@refuses_in_one_sentence
def main(
    studies: Annotated[Path, typer.Option(help="Studies folder with labels/final.")],
    out: Annotated[
        Path, typer.Option(callback=checked_table, help="The CSV file to write; rows of other models, boxes and corruptions stay.")
    ],
    split: Annotated[Path | None, typer.Option(help="Split file: only its validation patients are measured.")] = None,
    model: Annotated[list[str], typer.Option(help="Shipped models, by name.")] = [DEFAULT_MODEL],  # noqa: B006
    corruption: Annotated[list[str], typer.Option(help="Which of them; clean is the image as it is.")] = list(CORRUPTIONS),  # noqa: B006
    box: Annotated[list[BoxCondition], typer.Option(help="Box conditions.")] = [BoxCondition.tight, BoxCondition.none],  # noqa: B006
    patients: Annotated[int | None, typer.Option(min=1, help="Maximum number of patients.")] = None,
    device: Annotated[str, typer.Option(help="What the network runs on.")] = default_device(),
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Measure the Dice of each model under each corruption and box."""
    torch.set_num_threads(threads)
    check_names(corruption, CORRUPTIONS)
    where = find_device(device)
    files = require_labelled_studies(studies, split, patients)
    predictors = {path: Predictor.from_files(path, locator_file(), where) for path in map(model_file, model)}
    made = {"threads": threads, **origin(device_name(where))}
    for path, predictor in predictors.items():
        about = {"model": model_name(path), "model_version": predictor.version}
        rows = []
        for each in tqdm(files, unit="study", mininterval=5):
            rows += [{**about, **row, **made} for row in measure(predictor, each, corruption, box)]
        replace_rows(out, rows, ("model", "box", "corruption"))


def floats(volume: Volume) -> np.ndarray:
    """The grey values as float32."""
    return volume.array.astype(np.float32)


def _area_mean(array: np.ndarray, size: list[int]) -> np.ndarray:
    """(X, Y, Z) with each of (size[0], size[1], Z) pixels the mean of what it covers."""
    for axis in (0, 1):
        weights = _overlap(array.shape[axis], size[axis])
        array = np.moveaxis(np.tensordot(weights, array, (1, axis)), 0, axis)
    return array


def _overlap(before: int, after: int) -> np.ndarray:
    """(after, before): the share of each new pixel that each old one fills."""
    edges = np.linspace(0, before, after + 1)
    start, stop = edges[:-1, None], edges[1:, None]
    old = np.arange(before)[None]
    return (np.clip(np.minimum(stop, old + 1) - np.maximum(start, old), 0, None) / (before / after)).astype(np.float32)


def _signed_distance(inside: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """float32, in mm, slice by slice: positive inside, at most ``_NEAR_MM`` either way."""
    out = np.empty(inside.shape, np.float32)
    for k in range(inside.shape[2]):
        plane = inside[:, :, k]
        within = ndimage.distance_transform_edt(plane, spacing[:2]) if not plane.all() else np.full(plane.shape, _NEAR_MM)
        beyond = ndimage.distance_transform_edt(~plane, spacing[:2]) if plane.any() else np.full(plane.shape, _NEAR_MM)
        out[:, :, k] = np.clip(within - beyond, -_NEAR_MM, _NEAR_MM)
    return out


if __name__ == "__main__":
    typer.run(main)
