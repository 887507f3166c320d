"""The validation curve of a training: how it goes, and how good the network is now and then."""

from __future__ import annotations

import time
from pathlib import Path

from tqdm import tqdm

from prato.data.cases import TrainingCase
from prato.evaluation.validation import slice_dice
from prato.training.trainer import Budget, Progress, Trainer
from scripts.common.results import Row, read_rows, write_rows

_CHECKS = 12  # points of the curve


class ValidationCurve:
    """Shows progress, and measures the averaged network now and then: slices in windows round tight boxes, Dice by structure.

    Args:
        folder: of the run, whose ``curve.csv`` is gone on with.
        budget: that of :meth:`Trainer.fit`; what a run before has spent of it has been measured.
    """

    def __init__(
        self,
        folder: Path,
        trainer: Trainer,
        budget: Budget,
        cases: list[TrainingCase],
        steps_an_epoch: float,
        tensorboard: bool,
        made_by: Row,
    ) -> None:
        self.path, self.trainer, self.cases = folder / "curve.csv", trainer, cases
        self.steps_an_epoch, self.made_by = steps_an_epoch, made_by
        rows = read_rows(self.path) if self.path.exists() else []
        # what was measured after the state was stored is measured again
        self.rows: list[Row] = [row for row in rows if row["step"] <= trainer.step]
        # by the budget, not by the rows: a run that goes on with a larger one has rows enough for a whole curve already
        self.passed = int(budget.fraction_spent(trainer.step, trainer.seconds) * _CHECKS)
        self.bar = tqdm(total=100, unit="%", bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining} {postfix}")
        self.shown = time.monotonic()
        self.writer = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(folder / "tensorboard"))

    def __call__(self, progress: Progress) -> bool:
        if time.monotonic() - self.shown > 2 or progress.share >= 1:
            self.shown = time.monotonic()
            self.bar.n = 100 * progress.share
            self.bar.set_postfix_str(f"epoch {progress.step / self.steps_an_epoch:.2f} step {progress.step} loss {progress.loss:.3f}")
        passed = int(progress.share * _CHECKS)
        if passed > self.passed:
            self.passed = passed
            trainer, settings = self.trainer, self.trainer.settings
            dice = slice_dice(trainer.averaged, trainer.plan, self.cases, settings.window, trainer.device, settings.centre)
            row = {"step": progress.step, "minutes": round(progress.seconds / 60, 2), "loss": round(progress.loss, 4), "dice": dice}
            self.rows.append({**row, **self.made_by})
            write_rows(self.path, self.rows)
            self.bar.write(f"step {progress.step}: validation Dice " + ", ".join(f"{k} {v:.3f}" for k, v in dice.items()))
            if self.writer:
                self.writer.add_scalar("loss", progress.loss, progress.step)
                self.writer.add_scalars("dice", dice, progress.step)
        return True

    def close(self) -> None:
        self.bar.close()
        if self.writer:
            self.writer.close()
