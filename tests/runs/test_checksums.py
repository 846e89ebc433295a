from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from unigrad.runs.checksums import CHECKSUMS_FILE, check_seal, is_sealed, seal


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    (tmp_path / "weights").write_bytes(bytes(range(256)) * 100)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "state.json").write_text("{}")
    assert not is_sealed(tmp_path)
    seal(tmp_path)
    assert is_sealed(tmp_path)
    return tmp_path


def test_what_is_as_it_was_written_passes(sealed: Path) -> None:
    check_seal(sealed)
    (sealed / "notes.txt").write_text("a user's own")
    check_seal(sealed)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def to_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (flip, "weights is damaged: its checksum is not the one of checksums.json"),
        (lambda file: file.write_bytes(file.read_bytes()[:-1]), "weights has 25,599 bytes, and 25,600 were written"),
        (Path.unlink, "weights is missing"),
        (to_folder, "weights is no file"),
    ],
)
def test_one_line_names_the_file_and_the_reason(sealed: Path, harm: Callable[[Path], object], reason: str) -> None:
    harm(sealed / "weights")
    with pytest.raises(ValueError, match=r"\A[^\n]*\Z") as raised:
        check_seal(sealed)
    assert str(raised.value) == f"{sealed}/{reason}"


@pytest.mark.parametrize(
    "text", ["[]", "null", "{", '{"weights": 1}', '{"weights": {"bytes": -1, "sha256": "x"}}', "[" * 9999]
)
def test_checksums_that_are_none(sealed: Path, text: str) -> None:
    (sealed / CHECKSUMS_FILE).write_text(text)
    with pytest.raises(ValueError, match=rf"\A{sealed}/{CHECKSUMS_FILE}[^\n]*\Z"):
        check_seal(sealed)


def test_the_sums_are_those_that_sha256sum_prints(sealed: Path) -> None:
    sums = json.loads((sealed / CHECKSUMS_FILE).read_text())
    assert sums["inner/state.json"] == {
        "bytes": 2,
        "sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    }
