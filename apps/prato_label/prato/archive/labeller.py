"""One study of an archive: image in, mask file and record out, through the predictor that the server answers with."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prato.archive.studies import ArchiveError, Job
from prato.data.atomic import first_line, write_bytes
from prato.data.cine import Cine, read_cine
from prato.data.nifti import gzip_bytes, volume_chunks
from prato.data.studies.ed_es import named_ed_es
from prato.data.studies.folder import Study, describe_study
from prato.inference.cine_predictor import predict_cine
from prato.inference.predictor import Predictor
from prato.inference.request import InferenceRequest
from prato.labelling.files import sha256
from prato.models.checkpoint import load_model
from prato.prompts.phases import prompts_of_phase
from prato.pruning.plan import PRUNE_CHOICES


def run_parameters(model: Path, locator: Path | None, prune: str | None, device: str) -> dict[str, Any]:
    """What a mask follows from, besides its image and boxes (JSON values by name). A GPU computes in half precision: it is a parameter.

    Raises:
        CheckpointError: a model file cannot be used.
        ArchiveError: ``prune`` is unknown, or the model has no pruning plan or takes no prompts.
    """
    if prune is not None and prune not in PRUNE_CHOICES:
        raise ArchiveError(f"--prune must be one of {', '.join(PRUNE_CHOICES)}, not {prune}.")
    _, spec, version = load_model(model)
    if not spec.is_promptable:
        raise ArchiveError(f"{model.name} holds a network of the kind {spec.network}, which takes no prompts.")
    if prune is not None and spec.plan is None:
        raise ArchiveError(f"--prune is not for {model.stem}: it was trained without pruning and has no plan, so leave --prune out.")
    proposed_by = None if locator is None or spec.centre == "stack" else load_model(locator)[2]
    return {"model": model.stem, "model_version": version, "locator_version": proposed_by, "prune": prune, "device": device}


class Labeller:
    """Labels studies one by one into the folder ``out``; the same study gives the same bytes, whoever labels it and when.

    Args:
        device: "cpu" (one thread: more would change the order of sums) or "cuda".

    Raises:
        CheckpointError, ArchiveError: as :func:`run_parameters`; or there is no such ``device``.
    """

    def __init__(self, model: Path, locator: Path | None, prune: str | None, device: str, out: Path) -> None:
        torch.set_num_threads(1)
        if device == "cuda" and not torch.cuda.is_available():
            raise ArchiveError("There is no CUDA GPU here, or torch has no CUDA: leave --gpus-per-worker out to label on the CPU.")
        self.parameters = run_parameters(model, locator, prune, device)
        self.predictor = Predictor.from_files(model, locator, device)
        self.out = out

    def label(self, job: Job) -> dict[str, Any]:
        """Write the mask of ``job`` to ``<out>/<id>.nii.gz``, on the image's own grid, and say what it took: a record (JSON values).

        What is wrong with the study is said in the record, ``status`` "failed" with its ``error``; no mask is written then.

        Raises:
            OSError: ``out`` cannot be written to.
        """
        record: dict[str, Any] = {"study": job.study, "status": "failed", "image": job.image, "roi": job.roi}
        started, worked = time.perf_counter(), time.process_time()
        try:
            cine = read_cine(job.image)
            record["image_sha256"] = sha256(Path(job.image).read_bytes())
            read = time.perf_counter()
            request = InferenceRequest.parse({"roi": job.roi, "prune": self.parameters["prune"]})
            about = describe_study(Path(job.image).parent, Path(job.study).name)
            reply, mask = self._predict(cine, request, about)
        except Exception as error:  # whatever a study does to the code, the others are still to be labelled
            return {**record, "error": error_sentence(error)}
        predicted = time.perf_counter()
        data = gzip_bytes(volume_chunks(cine.grid().with_array(mask)), level=1)
        write_bytes(self.out / f"{job.study}.nii.gz", data)
        written = time.perf_counter()
        record |= {key: value for key, value in reply.items() if key != "label_names"}
        outside = {"read": read - started, "write": written - predicted, "total": written - started}
        record["latency_ms"] |= {step: round(1000 * seconds, 1) for step, seconds in outside.items()}
        record["cpu_ms"] = round(1000 * (time.process_time() - worked), 1)
        return {**record, "status": "done", "mask_sha256": sha256(data)}

    def _predict(self, cine: Cine, request: InferenceRequest, about: Study) -> tuple[dict[str, Any], np.ndarray]:
        """The reply and the mask of the image, in all phases where it has several; ``about`` is what the manifest says of it."""
        grid = cine.grid()
        prompts = request.prompts_by_phase(len(cine), grid.array.shape[:3], grid.spacing)
        if len(cine) > 1:
            named = named_ed_es({}, about, len(cine))
            found = replace(predict_cine(self.predictor, cine, prompts=prompts, prune=request.prune), named=named)
            return found.reply(about.height_cm, about.weight_kg), found.mask
        self.predictor.set_image(cine.phase(0))
        prediction = self.predictor.predict(prompts_of_phase(prompts, 0), request.prune)
        return prediction.reply(), prediction.mask


def error_sentence(error: BaseException) -> str:
    """What ``first_line`` says of an error, with its kind where the message was not written for people."""
    text = first_line(error)
    return text if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: {text}"
