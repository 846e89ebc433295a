"""The checksums that a checkpoint carries of its own files. Nothing here imports torch."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from unigrad.files import read_record, replace_json
from unigrad.runs.folder import ENVIRONMENT_FILE

CHECKSUMS_FILE = "checksums.json"

_THREADS = 4


class Checksum(BaseModel):
    """Of one file. sha256: in hexadecimal digits, as `sha256sum` prints it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


_CHECKSUMS = TypeAdapter(dict[str, Checksum])


def seal(folder: Path) -> None:
    """Write down what every file in the folder holds, but the versions, which decide nothing; to be done last."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ENVIRONMENT_FILE)
    with ThreadPoolExecutor(_THREADS) as threads:  # hashing a block lets go of the interpreter
        sums = [each.model_dump() for each in threads.map(_checksum, files)]
    names = [file.relative_to(folder).as_posix() for file in files]
    replace_json(folder / CHECKSUMS_FILE, dict(zip(names, sums, strict=True)))


def is_sealed(folder: Path) -> bool:
    """Whether there is anything to check it by: an earlier unigrad wrote no checksums."""
    return (folder / CHECKSUMS_FILE).exists()


def check_seal(folder: Path) -> None:
    """Reads every byte. Raises ValueError, one line, for the first file that is not as it was written."""
    expected = read_record(folder / CHECKSUMS_FILE, _CHECKSUMS)
    for name, each in expected.items():
        file = folder / name
        if not file.is_file():
            raise ValueError(f"{file} is {'no file' if file.exists() else 'missing'}")
        if (size := file.stat().st_size) != each.bytes:
            raise ValueError(f"{file} has {size:,} bytes, and {each.bytes:,} were written")
    files = [folder / name for name in expected]
    with ThreadPoolExecutor(_THREADS) as threads:
        for file, found in zip(files, threads.map(_checksum, files), strict=True):
            if found != expected[file.relative_to(folder).as_posix()]:
                raise ValueError(f"{file} is damaged: its checksum is not the one of {CHECKSUMS_FILE}")


def _checksum(file: Path) -> Checksum:
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256")
    return Checksum(bytes=file.stat().st_size, sha256=digest.hexdigest())
