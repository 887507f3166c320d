"""Which parameters a request may carry: the contract's, and those that MONAI Label and its stock clients send along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prato.prompts.points import PointsPrompt
from prato.prompts.request import RequestError
from prato.pruning.plan import PRUNE_CHOICES

#: First in the list that clients show, because stock clients send the first entry when nobody chose: the model's own plan.
DEFAULT_PRUNE = "default"
CONTRACT = ("roi", "prune", "return_tokens", "device")
#: Added by the server on a request's way to the task.
_SERVER = {"model", "image", "label", "description", "session", "save_label", "label_tag", "timeout"}
#: Sent by MONAI Label's Slicer and OHIF plugins and its client library, whatever the model.
_CLIENTS = {
    *("client_id", "logging", "result_extension", "result_dtype", "result_compress", "result_write_to_file", "restore_label_idx"),
    *("background", "points", "point_labels", "label_prompt", "label_info", "selected_label_name", "slice", "reset_state", "highres"),
}
_KNOWN = {*CONTRACT, *PointsPrompt.fields, *_SERVER, *_CLIENTS}


def shown_config(devices: list[str]) -> dict[str, Any]:
    """The options that clients show: lists become choices, booleans check boxes."""
    return {"device": devices, "prune": [DEFAULT_PRUNE, *PRUNE_CHOICES], "return_tokens": False}


def checked_parameters(request: Mapping[str, Any]) -> dict[str, Any]:
    """``request`` without what stands for a default.

    Raises:
        RequestError: a parameter that neither the contract nor a stock client knows.
    """
    unknown = [name for name in request if name not in _KNOWN]
    if unknown:
        structures = ", ".join(PointsPrompt.fields[:3])
        raise RequestError(f"{unknown[0]!r:.60} is not a parameter here: use {', '.join(CONTRACT)}, or points [i,j,k] under {structures}.")
    return {name: value for name, value in request.items() if (name, value) != ("prune", DEFAULT_PRUNE)}
