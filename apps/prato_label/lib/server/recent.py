"""The last requests for inference, for the status page."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from lib.infers.turns import Turn

#: Newest first; in memory alone.
recent: deque[dict[str, Any]] = deque(maxlen=50)


def remember(turn: Turn, model: str, image: str, status: int, seconds: float) -> None:
    """Note how a request ended: with which HTTP status, and after how long."""
    reply = turn.reply
    recent.appendleft(
        {
            **{"request_id": turn.request_id, "ended": int(time.time()), "model": model, "image": image, "status": status},
            **{"ms": round(1000 * seconds), "box_source": reply.get("box_source"), "kept_fraction": reply.get("kept_fraction", {})},
            "gflops": reply.get("gflops"),
        }
    )
