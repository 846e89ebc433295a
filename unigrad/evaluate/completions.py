"""The completions of a benchmark on disk: JSON lines, in the order in which they ended.

Rounding depends on who shares a batch, so the batches of an evaluation that was stopped must be those of one that was
not. They are cut before anything is sampled; the chunk that a kill fell into is decoded again in the same company, and
what it lacks on disk joins what is there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from pathlib import Path

from pydantic import TypeAdapter

from unigrad.errors import ConfigError
from unigrad.files import Count, Flag, Text, checked, opened
from unigrad.types import Reason, Verdict

BLOCK = 32
"""Samples of a problem that are drawn together at most; the n-th sample is the same whatever their total."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A completion with its verdict: a line. `tokens` counts the end token."""

    id: Text
    index: Count
    completion: Text
    tokens: Count
    truncated: Flag
    reason: Reason
    extracted: Text | None
    correct: Flag

    def judged(self, verdict: Verdict) -> Sample:
        """The same completion under another verdict."""
        return replace(self, reason=verdict.reason, extracted=verdict.extracted, correct=verdict.correct)

    def line(self) -> bytes:
        # A decoded completion may hold a lone surrogate, which only an escape can carry.
        return json.dumps(asdict(self), ensure_ascii=True).encode() + b"\n"


_NAMES = frozenset(each.name for each in fields(Sample))
_SAMPLE = TypeAdapter(Sample)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Problems `start` to `stop`, for each the samples `first` to `first + count`: one call of the engine."""

    start: int
    stop: int
    first: int
    count: int

    def pairs(self, ids: Sequence[str]) -> Iterator[tuple[str, int]]:
        """The id and the index of each of its samples."""
        return product(ids[self.start : self.stop], range(self.first, self.first + self.count))


def cut(problems: int, samples: int, rows: int) -> list[Chunk]:
    """Every sample of every problem, at most `rows` in a chunk (one problem's block may be more), in chunks of about
    one size: all problems with a first block of samples, then with a second.
    """
    chunks = []
    for first in range(0, samples, BLOCK):
        count = min(BLOCK, samples - first)
        calls = -(-problems // max(1, rows // count))
        step = -(-problems // calls)
        chunks += [Chunk(start, min(start + step, problems), first, count) for start in range(0, problems, step)]
    return chunks


def read(path: Path) -> Iterator[tuple[Sample, int]]:
    """The samples of a file, each with the offset of its end in bytes; a line that a kill cut off ends them.

    Raises ConfigError where the file cannot be read, and on a line whose values are not what a sample's can be.
    """
    if not path.exists():
        return
    end = 0
    with opened(path) as lines:
        for number, line in enumerate(lines, start=1):
            end += len(line)
            if not line.endswith(b"\n"):
                return
            try:
                data = json.loads(line)
            except ValueError:
                return
            except RecursionError:
                raise ConfigError(f"{path}, line {number} is damaged: it is nested too deeply") from None
            if not isinstance(data, dict) or not data.keys() >= _NAMES:
                return
            yield checked(data, _SAMPLE, f"{path}, line {number}"), end


def parsed(line: bytes, where: str) -> Sample:
    """A line that `read` has found whole."""
    return checked(json.loads(line), _SAMPLE, where)


def written(path: Path, ids: Iterable[str], samples: int) -> tuple[set[tuple[str, int]], int]:
    """The id and index of each of the file's samples, and the offset in bytes of the last one's end.

    They end at a line that a kill cut off, that is there twice, or that is none of `samples` samples of `ids`.
    """
    known = frozenset(ids)
    found: set[tuple[str, int]] = set()
    end = 0
    for sample, offset in read(path):
        pair = (sample.id, sample.index)
        if pair in found or sample.id not in known or not 0 <= sample.index < samples:
            break
        found.add(pair)
        end = offset
    return found, end


def append(path: Path, samples: Sequence[Sample]) -> None:
    """Write them; once this returns a kill no longer takes them."""
    with path.open("ab") as file:
        file.write(b"".join(sample.line() for sample in samples))
        file.flush()
        os.fsync(file.fileno())
