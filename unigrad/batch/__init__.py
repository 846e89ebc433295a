"""One update as tensors: trajectories token by token, the rows that weigh them, and how they are laid out."""

from unigrad.batch.padded import MicroBatch, micro_batches, padded
from unigrad.batch.rows import Row, Rows
from unigrad.batch.sequences import Sequences

__all__ = ["MicroBatch", "Row", "Rows", "Sequences", "micro_batches", "padded"]
