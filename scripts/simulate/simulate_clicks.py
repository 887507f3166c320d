"""How many clicks a study takes: a simulated labeller corrects the default network's masks of validation patients, click by click.

Each click lies in the largest part of the whole study that is still wrong: in its middle, or, by a careless labeller, anywhere in or beside
it and sometimes of the wrong structure; a third draws along it by freehand. The same clicks are stamped as discs of several radii, so
that one sees what the network behind a click is worth; "followed" also lets the slices beside a clicked one follow it, unless they
were clicked on; "whole part", which no labeller has, puts right all of the part that was pointed at.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import torch
import typer
from scipy import ndimage

from prato.data.structures import STRUCTURES
from prato.inference.image_stack import ImageStack
from prato.inference.scores import Scores
from prato.prompts.box import Box
from prato.prompts.clicks import Stroke
from prato.prompts.mask_prompt import MaskPrompt
from prato.refinement.refiner import Refiner
from prato.training.simulated_labeller import CAREFUL, CARELESS, SCRIBBLING
from scripts.common.labelled import require_labelled_studies
from scripts.common.paths import ACDC_SPLIT, REFINER
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import replace_rows
from scripts.simulate.click_study import Correct, Course, clicks_until, correct_by_clicks, make_drafts, stamp


class Way(str, Enum):
    """What is made of a click."""

    REFINED, FOLLOWED, DISC, WHOLE_PART = "refined", "followed", "disc", "whole part"


class Labeller(str, Enum):
    """Who points."""

    CAREFUL, CARELESS, SCRIBBLING = "careful", "careless", "scribbling"


MANNERS = {Labeller.CAREFUL: CAREFUL, Labeller.CARELESS: CARELESS, Labeller.SCRIBBLING: SCRIBBLING}
#: Radii of discs, mm.
RADII = (3.0, 5.0, 7.0, 9.0, 12.0)
CLICKS, GOALS = 20, (0.95, 0.97)


@refuses_in_one_sentence
def main(
    studies: Annotated[Path, typer.Option(help="ACDC as scripts/import_acdc.py makes it.")],
    out: Annotated[Path, typer.Option(callback=checked_table, help="The CSV file to write; rows of other ways and labellers stay.")],
    patients: Annotated[int, typer.Option(min=1, help="Validation patients.")] = 8,
    way: Annotated[list[Way], typer.Option(help="Several may be given.")] = list(Way),  # noqa: B006
) -> None:
    """Write a row for each study, labeller and way."""
    torch.set_num_threads(1)
    files = require_labelled_studies(studies, ACDC_SPLIT, patients)
    network = Refiner.from_file(REFINER) if {Way.REFINED, Way.FOLLOWED} & {*way} else None
    rows: list[dict[str, Any]] = []
    for number, draft in enumerate(make_drafts(files)):
        ways: dict[str, Correct] = {}
        if network is not None:
            made_so = {Way.REFINED: refined, Way.FOLLOWED: _followed}
            ways |= {each.value: make(network, draft.image, draft.scores) for each, make in made_so.items() if each in way}
        if Way.DISC in way:
            ways |= {f"disc of {radius:g} mm": stamp(radius, draft.image.volume.spacing) for radius in RADII}
        if Way.WHOLE_PART in way:
            ways[Way.WHOLE_PART.value] = _whole_part(draft.truth)
        for who in Labeller:
            for name, correct in ways.items():
                course = correct_by_clicks(draft.mask, draft.truth, correct, MANNERS[who], CLICKS, number)
                about = {"way": name, "labeller": who.value, "study": draft.file.study, "patient": draft.file.patient}
                made = {"threads": 1, "seed": number, **origin()}
                version = {"model_version": network.version} if network is not None and name in (Way.REFINED, Way.FOLLOWED) else {}
                rows.append({**about, **version, **measure_course(course), **made})
        replace_rows(out, rows, ("way", "labeller", "study"))


def refined(refiner: Refiner, image: ImageStack, scores: Scores | None) -> Correct:
    """Each click as the network behind clicks follows it; ``scores`` as for :meth:`Refiner.refine`."""

    def correct(mask: np.ndarray, before: list[Stroke], new: Stroke) -> np.ndarray:
        return refiner.refine(image, MaskPrompt(mask, Box.whole(mask.shape)), [*before, new], len(before), scores).mask

    return correct


def _followed(refiner: Refiner, image: ImageStack, scores: Scores | None) -> Correct:
    refine = refined(refiner, image, scores)

    def correct(mask: np.ndarray, before: list[Stroke], new: Stroke) -> np.ndarray:
        mask, strokes = refine(mask, before, new), [*before, new]
        clicked, k = {int(stroke.points[0, 2]) for stroke in strokes}, int(new.points[0, 2])
        beside = ({k - 1, k + 1} & {*range(mask.shape[2])}) - clicked
        previous = MaskPrompt(mask, Box.whole(mask.shape), right=tuple(clicked), propagate_to=tuple(beside))
        return refiner.propagate(image, previous, strokes, scores).mask

    return correct


def _whole_part(truth: np.ndarray) -> Correct:
    def correct(mask: np.ndarray, _: list[Stroke], new: Stroke) -> np.ndarray:
        out, k = mask.copy(), int(new.points[0, 2])
        parts, _count = ndimage.label((mask[:, :, k] != truth[:, :, k]) & (truth[:, :, k] == new.structure), np.ones((3, 3)))
        touched = np.unique(parts[tuple(new.points[:, :2].T)])
        out[:, :, k][np.isin(parts, touched[touched > 0])] = new.structure
        return out

    return correct


def measure_course(course: Course) -> dict[str, Any]:
    """What a row of the results says of a course."""
    mean = course.mean
    gains = [after - before for before, after, right in zip(mean, mean[1:], course.right) if right]
    last = len(mean) - 1
    found: dict[str, Any] = {"dice": {str(n): round(mean[min(n, last)], 4) for n in (0, 1, 3, 5, 10, 20)}}
    for goal in GOALS:
        key = f"clicks_to_{round(100 * goal)}"
        found[key] = {"mean": clicks_until(mean, goal)}
        found[key] |= {name: clicks_until([each[name] for each in course.dice], goal) for name in STRUCTURES}
    found["wrong_voxels"] = {str(n): course.wrong[min(n, last)] for n in (0, 5, 10, 20)}
    found["right_clicks"] = len(gains)
    found["lowered"] = sum(gain < -0.01 for gain in gains)
    found["raised"] = sum(gain > 0 for gain in gains)
    found["ms"] = round(median(course.ms), 1) if course.ms else None
    return found


if __name__ == "__main__":
    typer.run(main)
