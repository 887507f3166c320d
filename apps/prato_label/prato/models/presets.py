"""The networks as they are shipped: small enough to be trained and served on a CPU."""

from __future__ import annotations

from dataclasses import replace

from prato.data.structures import NUM_CLASSES
from prato.models import overview_swin_unetr, swin_unetr, unetr
from prato.models.checkpoint import ModelSpec

#: In-plane resolution (mm) and window edge (pixels): 192 mm, room for a heart whichever half of it the box was drawn round.
PIXEL, WINDOW = 1.5, 128
#: Batch normalisation: unlike instance normalisation, a pixel's value does not hang on what lies far from it.
_COMMON = {"in_channels": 3, "out_channels": NUM_CLASSES, "norm_name": "batch", "spatial_dims": 2}

PRESETS: dict[str, ModelSpec] = {
    "unetr": ModelSpec(
        network="unetr",
        arguments={**_COMMON, "img_size": WINDOW, "feature_size": 16, "hidden_size": 192, "mlp_dim": 768, "num_heads": 6},
        window=WINDOW,
        pixel=PIXEL,
        plan=replace(unetr.DEFAULT_PLAN, decode="kept").to_dict(),
    ),
    "swin_unetr": ModelSpec(
        network="swin_unetr",
        arguments={**_COMMON, "feature_size": 24, "window_size": 5, "num_heads": (1, 2, 4, 8)},
        window=WINDOW,
        pixel=PIXEL,
        plan=replace(swin_unetr.DEFAULT_PLAN, percentile=35.0, decode="kept").to_dict(),
    ),
}

#: Networks for stacks of whole slices.
STACK_PRESETS: dict[str, ModelSpec] = {
    "overview_swin_unetr": ModelSpec(
        network="overview_swin_unetr",
        arguments={**_COMMON, "feature_size": 24, "window_size": 5, "num_heads": (1, 2, 4, 8)},
        window=WINDOW,
        pixel=PIXEL,
        centre="stack",
        plan=overview_swin_unetr.DEFAULT_PLAN.to_dict(),
    ),
}
