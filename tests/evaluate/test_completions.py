"""The order of the completions, the chunks they are cut into, and files that a kill has torn."""

from __future__ import annotations

from pathlib import Path

import pytest

from unigrad.evaluate.completions import BLOCK, Sample, append, cut, read, written
from unigrad.types import Reason


def sample(name: str, index: int) -> Sample:
    return Sample(name, index, f"text \ud800 of {name}", 3, False, Reason.UNPARSEABLE, None, False)


@pytest.mark.parametrize(("problems", "samples"), [(5, 1), (7, 3), (3, BLOCK), (2, 2 * BLOCK + 5)])
@pytest.mark.parametrize("rows", [1, 4, 33, 1000])
def test_chunks_hold_every_sample_once(problems: int, samples: int, rows: int) -> None:
    names = [f"p{number}" for number in range(problems)]
    chunks = cut(problems, samples, rows)
    listed = [pair for chunk in chunks for pair in chunk.pairs(names)]
    assert sorted(listed) == sorted((name, index) for name in names for index in range(samples))
    assert all(len(list(chunk.pairs(names))) <= max(rows, chunk.count) for chunk in chunks)
    sizes = [chunk.stop - chunk.start for chunk in chunks if chunk.first == 0]
    assert max(sizes) - min(sizes) < len(sizes) or len(sizes) == 1
    # A chunk is one call of the engine, whose keys tell blocks apart by their number.
    assert all(chunk.first % BLOCK == 0 and chunk.count <= BLOCK for chunk in chunks)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    samples = [sample(name, index) for index in (2, 0, 1) for name in ("b", "a")]
    append(path, samples[:4])
    append(path, samples[4:])
    assert [each for each, _ in read(path)] == samples
    pairs = {(each.id, each.index) for each in samples}
    assert written(path, ["a", "b"], 3) == (pairs, path.stat().st_size)


@pytest.mark.parametrize(
    "torn",
    [
        b'{"id": "c", "ind',
        b'{"id": "c"}',
        b"\0\0\0\n",
        b'{"id": "c"}\n',
        pytest.param(sample("a", 0).line(), id="a line that is there already"),
        pytest.param(sample("d", 0).line(), id="another problem's"),
        pytest.param(sample("c", 1).line(), id="a sample too many"),
    ],
)
def test_a_torn_or_foreign_end_does_not_count(torn: bytes, tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    append(path, [sample("a", 0), sample("b", 0)])
    whole = path.read_bytes()
    path.write_bytes(whole + torn + sample("c", 0).line())
    assert written(path, ["a", "b", "c"], 1) == ({("a", 0), ("b", 0)}, len(whole))


def test_no_file_holds_nothing(tmp_path: Path) -> None:
    assert written(tmp_path / "none.jsonl", ["a"], 1) == (set(), 0)
