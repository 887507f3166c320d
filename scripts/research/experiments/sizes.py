"""How large the networks of the experiments are."""

from __future__ import annotations

from typing import Any

from prato.models import segformer
from prato.models.registry import list_presets, preset_fields

_MONAI: dict[str, Any] = {"norm_name": "batch", "spatial_dims": 2}
#: Networks that are built for one size of image: it is the experiment's.
_SIZED: dict[str, Any] = {"img_size": None}
#: "reduced" is what a CPU can train; TransUNet's is its own design at a quarter of the width.
SIZES: dict[tuple[str, str], dict[str, Any]] = {
    ("unetr", "reduced"): {**_MONAI, **_SIZED, "feature_size": 16, "hidden_size": 192, "mlp_dim": 768, "num_heads": 6},
    ("unetr", "full"): {**_MONAI, **_SIZED, "feature_size": 16, "hidden_size": 768, "mlp_dim": 3072, "num_heads": 12},
    ("swin_unetr", "reduced"): {**_MONAI, "feature_size": 12, "window_size": 5, "num_heads": (1, 2, 4, 8)},
    ("swin_unetr", "full"): {**_MONAI, "feature_size": 48, "window_size": 7, "num_heads": (3, 6, 12, 24)},
    ("transunet", "reduced"): {
        **{**_SIZED, "hidden_size": 192, "mlp_dim": 768, "num_heads": 6, "num_layers": 12},
        **{"width": 16, "units": (2, 2, 2), "decoder": (64, 32, 16, 16)},
    },
    ("transunet", "full"): dict(_SIZED),
    ("segformer", "reduced"): dict(segformer.B0),
    ("segformer", "full"): dict(segformer.B2),
    ("dyn_unet", "reduced"): {"filters": (32, 64, 128, 256, 320)},
}


def size_arguments(network: str, size: str) -> dict[str, Any]:
    """Constructor arguments, but for the channels. A network that is not the paper's is "reduced" as its own preset is.

    Raises:
        ValueError: there is no such network, or not of that size.
    """
    if (network, size) in SIZES:
        return SIZES[network, size]
    names = dict.fromkeys([*(name for name, _ in SIZES), *list_presets()])
    if network not in names:
        raise ValueError(f"network must be one of {', '.join(names)}, not {network}")
    if size != "reduced":
        raise ValueError(f"{network} has no other size than reduced, which is its preset")
    return {name: value for name, value in preset_fields(network)["arguments"].items() if name not in ("in_channels", "out_channels")}
