"""The order of the completions, the chunks they are cut into, and files that a kill has torn."""

from __future__ import annotations

from pathlib import Path

import pytest

from unigrad.evaluate.completions import BLOCK, Sample, append, count_complete, cut, in_order, keep, read
from unigrad.types import Reason


def sample(name: str, index: int) -> Sample:
    return Sample(name, index, f"text \ud800 of {name}", 3, False, Reason.UNPARSEABLE, None, False)


@pytest.mark.parametrize(("problems", "samples"), [(5, 1), (7, 3), (3, BLOCK), (2, 2 * BLOCK + 5)])
@pytest.mark.parametrize("rows", [1, 4, 33, 1000])
def test_chunks_hold_every_sample_once_and_in_one_order(problems: int, samples: int, rows: int) -> None:
    names = [f"p{number}" for number in range(problems)]
    chunks = cut(problems, samples, rows)
    listed = [
        (names[problem], index)
        for chunk in chunks
        for problem in range(chunk.start, chunk.stop)
        for index in range(chunk.first, chunk.first + chunk.count)
    ]
    assert listed == list(in_order(names, samples))
    assert sorted(listed) == sorted((name, index) for name in names for index in range(samples))
    assert all(chunk.size <= max(rows, chunk.count) for chunk in chunks)
    # A chunk is one call of the engine, whose keys tell blocks apart by their number.
    assert all(chunk.first % BLOCK == 0 and chunk.count <= BLOCK for chunk in chunks)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    written = [sample(name, index) for name, index in in_order(["a", "b"], 3)]
    append(path, written[:4])
    append(path, written[4:])
    assert [each for each, _ in read(path)] == written
    assert count_complete(path, ["a", "b"], 3) == 6
    # Other problems, or another number of samples, are not this file's.
    assert count_complete(path, ["a", "c"], 3) == 3
    assert count_complete(path, ["b", "a"], 3) == 0


@pytest.mark.parametrize("torn", [b'{"id": "c", "ind', b'{"id": "c"}', b"\0\0\0\n", b'{"id": "c"}\n'])
def test_a_torn_end_is_dropped(torn: bytes, tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    append(path, [sample("a", 0), sample("b", 0)])
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    assert count_complete(path, ["a", "b", "c"], 1) == 2
    keep(path, 2)
    assert path.read_bytes() == whole
    keep(path, 1)
    assert count_complete(path, ["a", "b", "c"], 1) == 1
    keep(path, 0)
    assert path.read_bytes() == b""


def test_no_file_holds_nothing(tmp_path: Path) -> None:
    assert count_complete(tmp_path / "none.jsonl", ["a"], 1) == 0
    keep(tmp_path / "none.jsonl", 0)
