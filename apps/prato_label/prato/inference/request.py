"""The parameters of an inference request, read and checked once, before anything is computed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from prato.data.stack import slice_axis
from prato.data.structures import BACKGROUND
from prato.data.wording import counted
from prato.prompts.base import Prompt, PromptError, list_prompts
from prato.prompts.clicks import CLICK_FIELDS, Stroke, read_clicks
from prato.prompts.mask_prompt import MaskPrompt, read_mask_prompt
from prato.prompts.phases import CinePrompts, Phases, Propagate, parse_phases, parse_propagate, prompts_by_phase
from prato.prompts.points import PointsPrompt
from prato.pruning.plan import PRUNE_CHOICES

#: What is said of a mask that is corrected.
_OF_MASK = ("previous", "done", "certain", "right_slices", "propagate_to")
#: First in the list that clients show, because stock clients send the first entry when nobody chose: the model's own plan.
DEFAULT_PRUNE = "default"
#: What the wire contract (docs/protocol/infer.md) offers, besides points and kinds of prompts that were added.
CONTRACT = ("roi", "phases", "propagate", "prune", "return_tokens", "device", "clicks", *_OF_MASK)
#: The mask's file formats: the Slicer and OHIF plugins send .nrrd; everyone who sends none gets the first.
RESULT_EXTENSIONS = (".nii.gz", ".nii", ".nrrd")
RESULT_DTYPES = ("uint8", "uint16")
#: Of these, what a labeller draws or chooses: where it holds something, its sender is told that nobody reads it.
_UNREAD = ("points", "label_prompt", "slice")
#: Added by the server on a request's way to the network.
_SERVER = {"model", "image", "label", "description", "session", "save_label", "label_tag", "timeout"}
#: Sent by MONAI Label's Slicer and OHIF plugins and its client library, whatever the model, and without effect here.
_CLIENTS = {
    *("client_id", "logging", "result_compress", "result_write_to_file", "restore_label_idx"),
    *("background", "points", "point_labels", "label_prompt", "label_info", "selected_label_name", "slice", "reset_state", "highres"),
}


class RequestError(ValueError):
    """A request that cannot be answered; the message is one sentence for the person who sent it."""


class Corrections(NamedTuple):
    """What a labeller corrects.

    Attributes:
        strokes: clicks and scribbles, oldest first. done: so many of them the mask knows already.
        masks: the mask that is corrected; None for the one that the request's other prompts are answered with.
    """

    strokes: tuple[Stroke, ...]
    done: int
    masks: MaskPrompt | None


class InferenceRequest(BaseModel):
    """A request whose parameters are what the wire contract allows; its prompts are checked against an image, see :meth:`prompts`.

    Attributes:
        image: the image's file; None where the request names none.
        phases: of a cine, as they were sent.
        propagate: the phases that the others are to follow; none where these are the ones that are corrected, None where none are followed.
        prune: the contract's ``prune``, or None for the model's own plan.
        return_tokens: whether the token-retention map is requested.
        device: as it was sent, for the server to look up.
        result_extension, result_dtype: of the mask's file.
        drawn: the parameters that hold prompts, as they were sent.
        warnings: ``parameter_ignored: <name>`` for what was sent and is read by nobody.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    image: Any = None
    phases: Phases = None
    propagate: Propagate = None
    prune: str | None = None
    return_tokens: bool = False
    device: Any = None
    result_extension: str = RESULT_EXTENSIONS[0]
    result_dtype: str = RESULT_DTYPES[0]
    drawn: dict[str, Any] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @classmethod
    def parse(cls, params: Mapping[str, Any]) -> InferenceRequest:
        """Read ``params`` (JSON values by name).

        Raises:
            RequestError: a parameter that neither the contract nor a stock client has, or a value that the contract does not allow.
        """
        drawn = {field for kind in list_prompts() for field in kind.fields}
        drawn |= {"background", "clicks", *_OF_MASK}
        known = {*cls.model_fields, *drawn, *_SERVER, *_CLIENTS} - {"drawn", "warnings"}
        unknown = [name for name in params if name not in known]
        if unknown:
            structures = ", ".join(PointsPrompt.fields[:3])
            added = [field for kind in list_prompts() if kind is not PointsPrompt for field in kind.fields]
            offered = ", ".join(dict.fromkeys((*CONTRACT, *added)))
            raise RequestError(f"{unknown[0]!r:.60} is not a parameter here: use {offered}, or points [i,j,k] under {structures}.")
        kinds = [kind for kind in list_prompts() if any(params.get(field) for field in kind.fields)]
        # of several kinds, the first counts, and of a mask to correct, roi alone; points of a structure are clicks, whatever else was drawn
        used = 0 if params.get("previous") and not params.get("roi") else 1
        unread = [*_UNREAD, *(field for kind in kinds[used:] for field in kind.fields if field not in CLICK_FIELDS)]
        if params.get("previous"):  # the click network has no tokens: none that could be pruned, and no map of them
            unread += ["return_tokens", *(["prune"] if params.get("prune") in PRUNE_CHOICES else [])]
        warnings = [f"parameter_ignored: {name}" for name in unread if params.get(name)]
        found = {"drawn": {name: value for name, value in params.items() if name in drawn}, "warnings": warnings}
        try:
            return cls.model_validate({**params, **found})
        except ValidationError as error:
            raise RequestError(str(error.errors()[0]["ctx"]["error"])) from error

    def prompts(self, shape: tuple[int, ...], spacing: tuple[float, ...]) -> tuple[Prompt, ...]:
        """The prompts of the first kind that was drawn, for an image of ``shape`` voxels of ``spacing`` mm; none to have a box proposed.

        Raises:
            RequestError: they cannot be used on that image.
        """
        try:
            for kind in list_prompts():
                if found := kind.from_request(self.drawn, shape, spacing):
                    return tuple(found)
        except PromptError as error:
            raise RequestError(str(error)) from error
        return ()

    def corrections(self, shape: tuple[int, ...], spacing: tuple[float, ...]) -> Corrections | None:
        """What of a mask is to be corrected, on an image of ``shape`` voxels of ``spacing`` mm; None where nothing is.

        Raises:
            RequestError: it cannot be used on that image.
        """
        try:
            strokes, masks = read_clicks(self.drawn, shape, spacing), read_mask_prompt(self.drawn, shape, spacing)
        except PromptError as error:
            raise RequestError(str(error)) from error
        done = self.drawn.get("done") or 0
        if type(done) is not int or not 0 <= done <= len(strokes):
            raise RequestError(f"done must be how many of {counted(len(strokes), 'click')} previous already contains, not {done!r:.40}.")
        if masks is not None:
            across = slice_axis(shape, spacing)
            for number, stroke in enumerate(strokes):
                if not masks.box.start[across] <= (k := int(stroke.points[0, across])) < masks.box.stop[across]:
                    raise RequestError(f"A click lies on slice {k}, which previous does not hold: send that slice as part of it.")
                if k in masks.right and number >= done:
                    raise RequestError(f"A click lies on slice {k}, which right_slices lists as right: leave out the click or the slice.")
        return Corrections(tuple(strokes), done, masks) if strokes or masks else None

    @property
    def holds_mask(self) -> bool:
        """Whether it holds a mask to correct, or parameters of one."""
        return any(self.drawn.get(name) for name in _OF_MASK)

    @property
    def holds_clicks(self) -> bool:
        """Whether it says what voxels are."""
        return any(self.drawn.get(name) for name in ("clicks", *CLICK_FIELDS))

    @property
    def unused_clicks(self) -> list[str]:
        """Names of what the masks of several phases are not corrected by: clicks, and points that are no prompt for a box."""
        names = ("clicks", *(CLICK_FIELDS if self.drawn.get("roi") else ("background",)))
        return [name for name in names if self.drawn.get(name)]

    @property
    def names_phases(self) -> bool:
        """Whether it asks for phases, or holds boxes of some: of an image of one phase, too, it wants to be told of these."""
        return self.phases is not None or isinstance(self.drawn.get("roi"), Mapping)

    def prompts_by_phase(self, count: int, shape: tuple[int, ...], spacing: tuple[float, ...]) -> CinePrompts:
        """As :meth:`prompts`, for every one of the ``count`` phases of a cine; by phase where boxes were sent so.

        Raises:
            RequestError: they cannot be used on that cine.
        """
        roi = self.drawn.get("roi")
        if not isinstance(roi, Mapping) or not roi:
            return self.prompts(shape, spacing)
        try:
            return prompts_by_phase(roi, count, shape, spacing)
        except PromptError as error:
            raise RequestError(str(error)) from error

    @field_validator("phases", mode="before")
    @classmethod
    def _check_phases(cls, phases: Any) -> Any:
        return parse_phases(phases)

    @field_validator("propagate", mode="before")
    @classmethod
    def _check_propagate(cls, propagate: Any, info: ValidationInfo) -> Any:
        found, phases = parse_propagate(propagate), info.data.get("phases")
        if found is not None and phases not in (None, "all"):
            raise ValueError(f"propagate fills every phase of a cine, not phases {phases!r:.60} alone: leave phases out.")
        return found

    @field_validator("prune", mode="before")
    @classmethod
    def _check_prune(cls, prune: Any) -> Any:
        if isinstance(prune, (list, tuple)) or prune == DEFAULT_PRUNE:  # the choice list, which a stock client handed back untouched
            return None
        if prune is not None and prune not in PRUNE_CHOICES:
            raise ValueError(f"prune must be one of {', '.join(PRUNE_CHOICES)} (as text), not {prune!r}.")
        return prune

    @field_validator("return_tokens", mode="before")
    @classmethod
    def _check_return_tokens(cls, return_tokens: Any) -> bool:
        if not isinstance(return_tokens, bool):
            raise ValueError(f"return_tokens must be true or false, not {return_tokens!r}.")
        return return_tokens

    @field_validator("result_extension", "result_dtype", mode="before")
    @classmethod
    def _check_result(cls, wanted: Any, info: ValidationInfo) -> Any:
        choices = RESULT_EXTENSIONS if info.field_name == "result_extension" else RESULT_DTYPES
        if wanted and wanted not in choices:
            raise ValueError(f"{info.field_name} must be one of {', '.join(choices)}, not {wanted!r:.40}.")
        return wanted or choices[0]


def require_heart(strokes: Sequence[Stroke], slices: Collection[int], across: int) -> None:
    """Refuse a click on a structure on a slice farther than the next one from the heart, and from other such clicks that lead to it.

    Args:
        strokes: those that are to change something.
        slices: along the axis ``across``, that hold heart; where none does, nobody knows where it is.

    Raises:
        RequestError: there is one.
    """
    if not slices:
        return
    # One after the other, a click makes heart of the slice beside: so must several at once, sent again after an undo or by stock clients.
    low, high = min(slices), max(slices)
    clicked = sorted({int(stroke.points[0, across]) for stroke in strokes if stroke.structure != BACKGROUND})
    for k in clicked:
        high = max(high, k) if k <= high + 1 else high
    for k in reversed(clicked):
        low = min(low, k) if k >= low - 1 else low
    away = [k for k in clicked if not low <= k <= high]
    if away:
        first, last = min(slices), max(slices)
        reaches = f"is on slice {first} alone" if first == last else f"reaches from slice {first} to {last}"
        raise RequestError(f"A click lies on slice {away[0]}, but the heart {reaches}: click on a slice next to the heart first.")
