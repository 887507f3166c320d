"""Model files: safetensors with the weights and, in the header, everything needed to build and describe the network."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor, nn

from prato.data.atomic import write_bytes
from prato.models.base import PrunableNetwork
from prato.models.registry import build_model, is_registered, model_class, preset_fields
from prato.pruning.plan import PruningPlan

#: What windows are centred on: the prompt's box, the middle of the image, or clicks. Networks for a "stack" of whole slices have none.
Centre = Literal["box", "image", "stack", "clicks"]
#: Not stored: what a freshly built network has anyway (Swin's index table), and the cross-attention that every MONAI transformer block
#: owns and no network here uses, a fifth of the file.
_REBUILT = ("relative_position_index", "norm_cross_attn.", ".cross_attn.")

#: What reading a damaged file may raise.
_BROKEN = (SafetensorError, ValueError, LookupError, ArithmeticError, OSError, RuntimeError, TypeError)


class CheckpointError(ValueError):
    """A model file that cannot be used; the message is one sentence."""


class ModelSpec(BaseModel):
    """What a model file says of itself.

    Attributes:
        network: the name that its class is registered by.
        arguments: its constructor's keyword arguments.
        window: window edge in pixels; pixel: in-plane resolution in mm; centre: what windows lie round.
        plan: default pruning plan; None for a network trained dense.
        training: how it came to be (seed, steps, split, command); for people.
    """

    model_config = ConfigDict(extra="forbid")

    network: str
    arguments: dict[str, Any]
    window: int = Field(gt=0)
    pixel: float = Field(gt=0)
    centre: Centre = "box"
    plan: dict[str, Any] | None
    training: dict[str, Any] = Field(default_factory=dict)

    @property
    def is_promptable(self) -> bool:
        """Whether it segments by a prompt: plain networks that others are compared with do not."""
        return issubclass(model_class(self.network), PrunableNetwork)

    def build(self) -> Any:
        """A freshly initialised network, of the class that ``network`` names."""
        return build_model(self.network, **self.arguments)

    def pruning_plan(self) -> PruningPlan | None:
        """The default plan as an object.

        Raises:
            ValueError: it is none. CheckpointError, which is one: the network prunes nothing, or what it decodes would not be what dense
                decoding gives.
        """
        if self.plan is None:
            return None
        if not self.is_promptable:
            raise CheckpointError(f"A network of the kind {self.network} prunes nothing: it must have no pruning plan.")
        plan = PruningPlan.from_dict(self.plan)
        norm = model_class(self.network).decoder_norm(self.arguments)
        if plan.decode == "kept" and norm.lower() != "batch":
            raise CheckpointError(
                f"A pruning plan with decode 'kept' needs the network's norm_name 'batch', not {norm!r}: use decode 'all'."
            )
        return plan

    def with_plan(self, plan: PruningPlan | None) -> ModelSpec:
        """The same model with another default plan."""
        return self.model_copy(update={"plan": None if plan is None else plan.to_dict()})


def model_preset(name: str) -> ModelSpec:
    """The network ``name`` as it is shipped: small enough to be trained and served on a CPU.

    Raises:
        ValueError: it has no preset.
    """
    return ModelSpec(**preset_fields(name))


def save_model(path: str | os.PathLike[str], network: nn.Module, spec: ModelSpec) -> str:
    """Write weights (half precision, but for tensors with numbers that are too large for it) and ``spec`` to ``path`` whole or not at all;
    returns the version, as ``model_version``."""
    tensors = {
        name: _halved(value).contiguous() for name, value in network.state_dict().items() if not any(part in name for part in _REBUILT)
    }
    data = save(tensors, {"prato": spec.model_dump_json()})
    write_bytes(path, data)
    return version_of(data)


def load_model(path: str | os.PathLike[str]) -> tuple[Any, ModelSpec, str]:
    """Read a model file: the network in evaluation mode (float32, CPU), its spec and its version.

    Raises:
        CheckpointError: not a model file of this project, a network that is not here, or weights or a plan that do not fit it.
    """
    path = Path(path)
    try:
        data = path.read_bytes()  # once: a file replaced meanwhile must not give the weights of one and the version of the other
        spec = ModelSpec.model_validate_json(_described(data))
    except _BROKEN as error:
        raise _unusable(path, error) from error
    _require_network(path, spec)
    try:
        spec.pruning_plan()
        state = load(data)
        network = spec.build()
        own = network.state_dict()
        missing = [name for name in own if name not in state and not any(part in name for part in _REBUILT)]
        if missing:  # load_state_dict would let relevance projections keep their random values
            raise KeyError(missing[0])
        state.update({name: value for name, value in own.items() if any(part in name for part in _REBUILT)})
        network.load_state_dict({name: value.to(own[name].dtype) if name in own else value for name, value in state.items()})
    except CheckpointError as error:
        raise CheckpointError(f"{path.name} cannot be used. {error}") from error
    except _BROKEN as error:
        raise _unusable(path, error) from error
    return network.float().eval(), spec, version_of(data)  # whatever precision torch builds networks in


def read_spec(path: str | os.PathLike[str]) -> ModelSpec:
    """What a model file says of itself, without reading its weights and building its network as :func:`load_model` does.

    Raises:
        CheckpointError: not a model file of this project, cut short, or of a network that is not here.
    """
    path = Path(path)
    try:
        with safe_open(path, "pt") as file:
            spec = ModelSpec.model_validate_json(file.metadata()["prato"])
    except _BROKEN as error:
        raise _unusable(path, error) from error
    _require_network(path, spec)
    return spec


def spec_of(data: bytes) -> ModelSpec | None:
    """What the model file with the bytes ``data`` says of itself; None where it is none of this project."""
    try:
        return ModelSpec.model_validate_json(_described(data))
    except _BROKEN:
        return None


def stored_version(path: str | os.PathLike[str]) -> str:
    """The version of the model file at ``path``, whether or not it can be used. Raises OSError where there is none."""
    return version_of(Path(path).read_bytes())


def _halved(value: Tensor) -> Tensor:
    """``value`` in half precision, unless numbers such as the running variance of a wide activation would become infinite."""
    half = value.half() if value.is_floating_point() else value
    return half if torch.equal(half.isfinite(), value.isfinite()) else value


def _described(data: bytes) -> str:
    """The spec in a safetensors header: eight bytes of length, then JSON with the file's own words under ``__metadata__``."""
    length = int.from_bytes(data[:8], "little")
    return str(json.loads(data[8 : 8 + length])["__metadata__"]["prato"])


def is_cut_short(data: bytes) -> bool:
    """Whether ``data`` is the beginning of a safetensors file, or nothing yet, as while it is copied."""
    if data[8:9] != b"{":
        return not data
    end = 8 + int.from_bytes(data[:8], "little")
    if len(data) < end:
        return True
    try:
        tensors = [value for name, value in json.loads(data[8:end]).items() if name != "__metadata__"]
        return len(data) < end + max(tensor["data_offsets"][1] for tensor in tensors)
    except (ValueError, LookupError, TypeError, AttributeError):  # it is something else
        return False


def version_of(data: bytes) -> str:
    """Twelve hexadecimal digits of the file's SHA-256: the same file is the same version on every machine."""
    return hashlib.sha256(data).hexdigest()[:12]


def channels_last(network: Any) -> Any:
    """``network`` with its 2D convolutions in the channels-last layout, in which they run faster; a 3D network as it is."""
    dims = {module.weight.ndim for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Conv3d))}
    return network.to(memory_format=torch.channels_last) if dims == {4} else network


def _require_network(path: Path, spec: ModelSpec) -> None:
    """Refuse a network that no file registers. What such a file raises as it is imported passes: the model file has no part in it."""
    if not is_registered(spec.network):
        raise CheckpointError(
            f"{path.name} cannot be used. Its network {spec.network!r:.60} is not here: add the file to prato/models that registers it."
        )


def _unusable(path: Path, error: Exception) -> CheckpointError:
    if isinstance(error, OSError) and error.strerror:  # nothing is said against the file
        return CheckpointError(f"{path.name} cannot be read ({error.strerror.lower()}): check the file and its permissions.")
    return CheckpointError(f"{path.name} is not a model file of PrATo Label: restore the shipped one or train it again.")
