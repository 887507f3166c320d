"""How far a box travels, from the form field to the written mask: through few functions, each short enough to be read at once."""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from types import CodeType, FrameType, GeneratorType
from typing import Any

import pytest
import torch
from monailabel.interfaces.tasks.infer_v2 import InferType

from lib.infers import live_predictor
from lib.infers.prato_infer import PratoInfer
from lib.server.checks import parse_json_object
from prato.inference.request import DEFAULT_PRUNE, InferenceRequest
from prato.inference.window import Window
from prato.prompts.base import Prompt
from prato.prompts.batch import PromptBatch, PromptGroup
from prato.prompts.box import Box
from prato.runtime.cancel_token import NEVER_CANCELLED
from tests.phantoms import make_thin_phantoms
from tests.waiting import wait_until

APP = Path(__file__).resolve().parents[3] / "apps" / "prato_label"
ROI = [30, 70, 28, 72, 1, 4]
#: What the box is on its way: text, numbers, a request, a box, a prompt, prompts of a batch, and the window that lies round it. A region,
#: which says where a network has work, follows from the tokens that stay: it is another thing.
KINDS = (Box, Prompt, PromptBatch, PromptGroup, InferenceRequest, Window)
#: Tensors of positions are told by their names.
TENSORS = {"box", "boxes", "coordinates"}


def is_box(name: str, value: Any) -> bool:
    """Whether the variable is the box in one of its representations, or holds it."""
    if isinstance(value, KINDS) or (isinstance(value, torch.Tensor) and name in TENSORS):
        return True
    if isinstance(value, GeneratorType) and value.gi_frame:
        return any(is_box(key, item) for key, item in value.gi_frame.f_locals.items())
    if isinstance(value, str):
        return value.startswith("{") and '"roi"' in value
    if isinstance(value, type):
        return issubclass(value, Prompt) and name != "cls"  # a prompt's kind comes with its positions
    if isinstance(value, dict):
        return "roi" in value or any(is_box(name, item) for item in value.values())
    if not isinstance(value, (list, tuple)):
        return False
    return any(is_box(name, item) for item in value) or (all(isinstance(item, int) for item in value) and list(value) == ROI)


class Watch:
    """Functions of the app that are handed the box: as an argument, or from the function that they were defined in."""

    def __init__(self) -> None:
        self.found: dict[CodeType, str] = {}

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(str(APP)) or code in self.found:
            return
        count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4) + bool(code.co_flags & 8)
        known = frame.f_locals
        if any(name in known and is_box(name, known[name]) for name in (*code.co_varnames[:count], *code.co_freevars)):
            self.found[code] = f"{Path(code.co_filename).relative_to(APP)}: {code.co_name}"


#: Reading a value that a box has is no step on its way.
_VALUES = {member.fget.__code__ for kind in KINDS for member in vars(kind).values() if isinstance(member, property) and member.fget}


def functions_on_the_way(task: PratoInfer, form: str, image: Path) -> dict[CodeType, str]:
    """Those that the box in the form field ``form`` goes through, of the route's check of that field and of ``task``.

    A loop or a lambda belongs to the function that it is written in.
    """
    watch = Watch()
    sys.setprofile(watch)
    live_predictor.run_in_compute_thread(lambda _: sys.setprofile(watch), NEVER_CANCELLED)
    try:
        mask, _ = task({**parse_json_object(form), "image": str(image)})
    finally:
        sys.setprofile(None)
        live_predictor.run_in_compute_thread(lambda _: sys.setprofile(None), NEVER_CANCELLED)
    Path(mask).unlink()
    inner = {constant for code in watch.found for constant in code.co_consts if isinstance(constant, CodeType)}
    return {code: name for code, name in watch.found.items() if code not in _VALUES | inner}


@pytest.mark.slow
@pytest.mark.parametrize(("model", "most"), [("prato_overview_unet", 27), ("prato_swin_unetr", 38)])
def test_a_box_becomes_a_mask_in_few_steps(model: str, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``most`` and the route itself, which MONAI Label's own function then calls."""
    monkeypatch.setattr(live_predictor, "PRUNE_CHOICES", ())  # what a slice costs is measured after loading, with the default plan alone
    make_thin_phantoms(tmp_path, 1)
    image, *_ = sorted(tmp_path.glob("*.nii.gz"))
    file = APP / "model" / f"{model}.safetensors"
    task = PratoInfer(InferType.DEEPEDIT, file, file, "")
    form = json.dumps({"roi": ROI, "device": "cpu"})
    mask, _ = task({**parse_json_object(form), "image": str(image)})  # what is done once for a model and an image is no part of the way
    Path(mask).unlink()
    wait_until(lambda: set(task.predictor.costs) == {DEFAULT_PRUNE})
    found = functions_on_the_way(task, form, image)
    listed = "\n".join(sorted(found.values()))
    assert len(found) <= most, listed
    assert len({code.co_filename for code in found}) <= 19, listed
    assert {name for code, name in found.items() if len(inspect.getsourcelines(code)[0]) > 60} == set()
