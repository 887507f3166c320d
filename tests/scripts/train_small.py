"""scripts/train.py with networks small enough for a test and in single precision; started by ``torchrun``."""

import typer

import prato.runtime.precision
from scripts import train
from scripts.common import validation_curve
from tests.prato.conftest import small_spec


def make_small() -> None:
    prato.runtime.precision.is_bfloat16_fast = lambda device: False  # its rounding would hide a wrong gradient
    validation_curve._CHECKS = 1
    train.model_preset = small_spec


if __name__ == "__main__":
    make_small()
    typer.run(train.main)
