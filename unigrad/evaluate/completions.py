"""The completions of a benchmark on disk: JSON lines in a fixed order, written a chunk at a time.

Rounding depends on who shares a batch, so the batches of an evaluation that was stopped must be those of one that was
not. They are cut before anything is sampled; a chunk is on disk whole, or sampled again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from unigrad.types import Reason, Verdict

BLOCK = 32
"""Samples of a problem that are drawn together at most; the n-th sample is the same whatever their total."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A completion with its verdict: a line. `tokens` counts the end token."""

    id: str
    index: int
    completion: str
    tokens: int
    truncated: bool
    reason: Reason
    extracted: str | None
    correct: bool

    def judged(self, verdict: Verdict) -> Sample:
        """The same completion under another verdict."""
        return replace(self, reason=verdict.reason, extracted=verdict.extracted, correct=verdict.correct)

    def line(self) -> bytes:
        # A decoded completion may hold a lone surrogate, which only an escape can carry.
        return json.dumps(asdict(self), ensure_ascii=True).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Problems `start` to `stop`, for each the samples `first` to `first + count`: one call of the engine."""

    start: int
    stop: int
    first: int
    count: int

    @property
    def size(self) -> int:
        return (self.stop - self.start) * self.count


def cut(problems: int, samples: int, rows: int) -> list[Chunk]:
    """Every sample of every problem, at most `rows` in a chunk (one problem's block may be more).

    All problems come with a first block of samples, then with a second: the order does not depend on `rows`.
    """
    chunks = []
    for first in range(0, samples, BLOCK):
        count = min(BLOCK, samples - first)
        step = max(1, rows // count)
        chunks += [Chunk(start, min(start + step, problems), first, count) for start in range(0, problems, step)]
    return chunks


def in_order(ids: Sequence[str], samples: int) -> Iterator[tuple[str, int]]:
    """The id and the index of each line of a complete file."""
    for chunk in cut(len(ids), samples, 1):
        for index in range(chunk.first, chunk.first + chunk.count):
            yield ids[chunk.start], index


def read(path: Path) -> Iterator[tuple[Sample, int]]:
    """The samples of a file, each with the offset of its end in bytes; a line that a kill cut off ends them."""
    if not path.is_file():
        return
    end = 0
    with path.open("rb") as lines:
        for line in lines:
            end += len(line)
            if not line.endswith(b"\n"):
                return
            try:
                fields = json.loads(line)
                sample = Sample(**{**fields, "reason": Reason(fields["reason"])})
            except (ValueError, TypeError, KeyError):
                return
            yield sample, end


def count_complete(path: Path, ids: Sequence[str], samples: int) -> int:
    """How many lines from the first on are there and are those of a complete file."""
    pairs = zip(read(path), in_order(ids, samples), strict=False)
    count = 0
    for (sample, _), expected in pairs:
        if (sample.id, sample.index) != expected:
            break
        count += 1
    return count


def keep(path: Path, count: int) -> None:
    """Cut the file after its first `count` lines."""
    if not path.is_file():
        return
    end = 0
    for number, (_, offset) in enumerate(read(path), 1):
        if number > count:
            break
        end = offset
    os.truncate(path, end)


def append(path: Path, samples: Sequence[Sample]) -> None:
    """Write a chunk; once this returns a kill no longer takes it."""
    with path.open("ab") as file:
        file.write(b"".join(sample.line() for sample in samples))
        file.flush()
        os.fsync(file.fileno())
