"""One update as tensors: trajectories token by token, the rows that weigh them, and how they are laid out."""

from unigrad.batch.layouts import Costs, laid_out, micro_batch_of
from unigrad.batch.micro_batch import LAYOUTS, Layout, MicroBatch, Prefix
from unigrad.batch.padded import micro_batches
from unigrad.batch.ragged import Ragged
from unigrad.batch.rows import Row, Rows
from unigrad.batch.sequences import Sequences

__all__ = [
    "LAYOUTS",
    "Costs",
    "Layout",
    "MicroBatch",
    "Prefix",
    "Ragged",
    "Row",
    "Rows",
    "Sequences",
    "laid_out",
    "micro_batch_of",
    "micro_batches",
]
