"""Training on submitted labels, as MONAI Label's train tasks."""

import os

from lib.trainers.prato_trainer import PratoTrainer

# A training is a child process on the server's cores: threads that wait by spinning would cost both several times the time.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__all__ = ["PratoTrainer"]
