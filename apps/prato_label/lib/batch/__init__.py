"""Batch inference: many studies segmented in the background, on the networks that answer the labellers."""

from lib.batch.batch import Batch
from lib.batch.batches import Batches
from lib.batch.order import BatchOrder, batch_order

__all__ = ["Batch", "BatchOrder", "Batches", "batch_order"]
