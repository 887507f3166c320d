"""How an experiment's network is built."""

from __future__ import annotations

from prato.models.checkpoint import ModelSpec
from scripts.research.baselines.prato_box import PRATO_BOX
from scripts.research.datasets.base import FIELD_MM, dataset_class
from scripts.research.experiments.schema import Experiment
from scripts.research.experiments.sizes import size_arguments


def model_spec(experiment: Experiment) -> ModelSpec:
    """The network that ``experiment`` trains, with its plan."""
    plan, edge = experiment.pruning_plan(), experiment.sight.edge
    classes = 1 + len(dataset_class(experiment.data).structures)
    arguments = {"in_channels": 3, "out_channels": classes, **size_arguments(experiment.network, experiment.size)}
    if "img_size" in arguments:
        arguments["img_size"] = edge
    network = experiment.network
    if experiment.is_baseline:
        network = "baseline_unetr"
        arguments |= {"method": experiment.method, "box_channel": experiment.has_box_channel}
        arguments |= {} if experiment.settings is None else {"settings": experiment.settings}
    else:
        network = PRATO_BOX if experiment.has_box_channel else network
        arguments["stages"] = () if plan is None else plan.prune_after
    pixel = FIELD_MM / experiment.image
    return ModelSpec(
        network=network,
        arguments=arguments,
        window=edge,
        pixel=pixel,
        centre="image",
        plan=None if plan is None else plan.to_dict(),
    )


def dense_spec(experiment: Experiment) -> ModelSpec:
    """The same network for the whole image, dense: what its cost is compared with."""
    none = {"plan": None, "settings": None, "teacher": None}
    return model_spec(experiment.model_copy(update={"method": "dense", "sees_box": "not at all", **none}))
