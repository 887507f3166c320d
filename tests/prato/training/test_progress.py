"""What is told of a training while it runs."""

from __future__ import annotations

from pathlib import Path

from prato.training.progress import TrainingProgress


def test_the_best_is_the_best_of_what_is_measured_alike(tmp_path: Path) -> None:
    progress = TrainingProgress(tmp_path / "stats.json", 1, 9, 0.8)
    assert progress.state["best_metric"] == 0.8  # of whole volumes
    told = []
    for dice in (0.6, 0.7, 0.65):  # of slices
        progress.report_validation({"mean": dice})
        told.append(progress.state["best_metric"])
    assert told == [0.6, 0.7, 0.7]
