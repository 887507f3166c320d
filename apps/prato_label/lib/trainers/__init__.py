"""Training on submitted labels, as MONAI Label's train tasks."""

from lib.trainers.prato_trainer import PratoTrainer

__all__ = ["PratoTrainer"]
