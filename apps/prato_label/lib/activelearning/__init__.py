"""Which study to label next."""

from __future__ import annotations

from collections.abc import Mapping

from monailabel.interfaces.tasks.strategy import Strategy

from lib.activelearning import questions
from lib.activelearning.covering import Covering
from lib.activelearning.scored import Scored
from lib.activelearning.unscored import First, Random
from lib.infers.live_pipeline import LivePipeline


def strategies(pipelines: Mapping[str, LivePipeline], default: str) -> dict[str, Strategy]:
    """The strategies by the names that clients show.

    Args:
        pipelines: by model, who may judge; a request names its ``model``, or else ``default`` does.
    """
    return {
        "first": First(),
        "random": Random(),
        "jitter": Scored("The study whose mask changes most when the box is moved a little", questions.jitter, pipelines, default),
        "phases": Scored("The study whose ED and ES masks fit one heart least", questions.phases, pipelines, default),
        "entropy": Scored("The study over which the model is least decided", questions.entropy, pipelines, default),
        "coverage": Covering("The study whose label takes away most doubt for what it costs", pipelines, default),
    }
