"""What predictions cost the server: asked for until it has measured its models, and reckoned for the boxes that are drawn."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PratoLabelLib.answers import Cost, ServerInfo
from PratoLabelLib.geometry import Box, GeometryError, roi_to_ijk_box

LANE = "costs"
_ASK_S = 5.0


class CostWatch:
    """Asks a server that has not measured its models yet, for what it offers.

    Args:
        ask: hands a question for the client, and what to do with its answer, to the worker.
        arrived: told each answer.
    """

    def __init__(self, ask: Callable[..., None], arrived: Callable[[ServerInfo], None]) -> None:
        self._ask, self._arrived = ask, arrived
        self._asked = 0.0

    def tick(self) -> None:
        """Ask, if the last question is five seconds old and none has failed."""
        if time.monotonic() - self._asked > _ASK_S:
            self._asked = time.monotonic()
            self._ask(lambda client: client.info(), self._arrived, LANE, self._lose, quiet=True)

    def _lose(self) -> None:
        self._asked = math.inf


def expected_cost(per_slice: Mapping[str, Cost], prune: str, rois: Sequence[Any], volume_node: Any) -> Cost | None:
    """The server's figure for a slice, times the slices of the boxes round ``rois`` (without one, of the volume); None if not known."""
    if prune not in per_slice:
        return None
    try:
        boxes: list[Box] = [roi_to_ijk_box(roi, volume_node) for roi in rois]
    except GeometryError:
        return None
    slices = len({k for box in boxes for k in range(box[4], box[5])}) or volume_node.GetImageData().GetDimensions()[2]
    return Cost(per_slice[prune].gflops * slices, per_slice[prune].ms * slices)
