"""Text files that a kill or a full disk may fall into: replaced whole, and read as far as they are whole; what stands
in them, checked as it is read, so that a damaged file is one line that says where; and locks."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Annotated, Any, TextIO, TypeVar

from pydantic import Field, InstanceOf, Strict, TypeAdapter, ValidationError

from unigrad.errors import ConfigError, one_line, shortened

try:
    import fcntl
except ImportError:
    raise ConfigError("unigrad runs on Linux and macOS, on Windows inside WSL: this Python has no fcntl") from None

T = TypeVar("T")

Text = InstanceOf[str]
"""A text; a decoded completion's may hold a lone surrogate."""
Whole = Annotated[int, Strict(), Field(ge=-(2**63), lt=2**63)]
Count = Annotated[int, Strict(), Field(ge=0, lt=2**63)]
Number = Annotated[float, Strict(), Field(ge=-1e38, le=1e38)]
"""A finite number that float32 holds, as curves are drawn of it."""
Proportion = Annotated[float, Strict(), Field(ge=0, le=1)]
Flag = Annotated[bool, Strict()]
_NO_OBJECT = frozenset({"model_type", "dict_type", "mapping_type", "dataclass_type"})
"""pydantic's kinds of error where something else than an object stands; its messages name a class of ours."""
LONGEST_NAME, LONGEST_PATH = 255, 4095
"""Bytes, on every common file system."""


class DamagedError(ConfigError):
    """A file that cannot be read, or holds something else than it should: one line. reason: the part of it that does
    not name the file."""

    def __init__(self, line: str, reason: str) -> None:
        super().__init__(line)
        self.reason = reason


def lock(file: int | IO[bytes]) -> None:
    """For this process, until the file is closed. Raises BlockingIOError where another process has it."""
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """What is written here takes the place of `path` whole, at the end: whoever reads it, and whoever is killed, finds
    the old or the new. Where the writing fails, the old one stays, and nothing lies beside it."""
    partial = path.with_suffix(".partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            yield file
            file.flush()
            # Else a machine that goes down could find the new name with nothing behind it.
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def replace_text(path: Path, text: str) -> None:
    """Replaced as by `replacing`."""
    with replacing(path) as file:
        file.write(text)


def replace_json(path: Path, data: Mapping[str, Any]) -> None:
    """An object, to be read by people too; replaced as `replace_text` does."""
    replace_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def read_text(path: Path) -> str:
    """Raises ConfigError where it may not be read, or holds no UTF-8 text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 text: {error.reason} at byte {error.start}"
        raise DamagedError(f"{path} is {reason}", reason) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DamagedError(f"cannot read {path}: {reason}", reason) from None


def opened(path: Path) -> IO[bytes]:
    """Open to be read. Raises ConfigError where it may not be."""
    try:
        return path.open("rb")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None


def read_json(path: Path, schema: TypeAdapter[Any]) -> Any:
    """What a file of JSON holds, as it stands there. Raises ConfigError where that does not fit the schema."""
    data = _parsed(read_text(path), str(path))
    checked(data, schema, str(path))
    return data


def read_record(path: Path, schema: TypeAdapter[T]) -> T:
    """What a file of JSON holds, as the schema has it. Raises ConfigError where that does not fit."""
    return checked(_parsed(read_text(path), str(path)), schema, str(path))


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines; a last line cut off, by a kill or in the writing, is left out.

    Raises ConfigError on any other line that is no object, and where the file cannot be read.
    """
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            where = f"{path}, line {number}"
            try:
                value = _parsed(_decoded(line, where), where)
            except ConfigError:
                if line.startswith(b"{") and not line.endswith(b"\n"):
                    return
                raise
            if not isinstance(value, dict):
                raise ConfigError(f"{where} is damaged: an object belongs there, not {_kind(value)}")
            yield value


def checked(value: Any, schema: TypeAdapter[T], where: str, what: str = "an object") -> T:
    """The value as the schema has it. Raises ConfigError, one line that begins with `where`, on the first fault.

    what: the value in a word or two.
    """
    try:
        return schema.validate_python(value)
    except ValidationError as errors:
        lacking = [".".join(map(str, each["loc"])) for each in errors.errors() if each["type"] == "missing"]
        if lacking:
            reason = f"{what} without {', '.join(lacking[:5])}"
            raise DamagedError(f"{where}: {reason}", reason) from None
        error = errors.errors()[0]
        message = error["msg"].removeprefix("Value error, ")
        if error["type"] in _NO_OBJECT:
            message = "an object belongs there"
        place = _place(error["loc"], value)
        what = f"{place} = {shortened(repr(error['input']), 60)}: " if place else ""
        raise _damaged(where, f"{what}{message[0].lower()}{message[1:]}") from None


def is_utf8(text: str) -> bool:
    """Whether the text can be written as UTF-8: a lone surrogate, half a character, cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_file(path: Path) -> bool:
    """As `Path.is_file`; a text that is no name of a file, such as one too long, is none either."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def check_folder(path: Path, what: str) -> None:
    """Raises ConfigError, on behalf of `what` ("--out x"), where no folder can be at this path, or none be written."""
    check_name(path, what)
    there = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
    if not there.is_dir():
        beneath = "is" if there == path.absolute() else f"lies below {there},"
        raise ConfigError(f"{what} {beneath} a file, not a folder")
    if there == path.absolute():
        return
    try:
        # Only the attempt tells: some file systems take nothing, whatever their permissions say.
        Path(tempfile.mkdtemp(prefix=".unigrad-", dir=there)).rmdir()
    except OSError as error:
        raise ConfigError(f"{what}: no folder can be made in {there}: {error.strerror}") from None


def check_name(path: Path, what: str) -> None:
    """Raises ConfigError where no file system takes the name."""
    longest = max(path.parts, key=len, default="")
    if len(longest.encode()) > LONGEST_NAME or len(str(path).encode()) > LONGEST_PATH:
        raise ConfigError(f"{shortened(what, 60)} is too long a name: at most {LONGEST_NAME} bytes a part")


def _decoded(line: bytes, where: str) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where} is not UTF-8 text: {error.reason} at byte {error.start}") from None


def _place(location: tuple[int | str, ...], value: Any) -> str:
    """Keys and indices, with dots. Pydantic's location also names the members of unions, which stand in no file."""
    place = []
    for part in location:
        inside = value if isinstance(value, dict) else dict(enumerate(value)) if isinstance(value, list) else {}
        if part in inside:
            place.append(str(part))
            value = inside[part]
    return ".".join(place)


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise _damaged(where, "it is nested too deeply") from None
    except ValueError as error:
        raise _damaged(where, one_line(error)) from None


def _damaged(where: str, reason: str) -> DamagedError:
    return DamagedError(f"{where} is damaged: {reason}", reason)


@contextlib.contextmanager
def locked(folder: Path, held: str) -> Iterator[None]:
    """The folder is this process's alone, until the end or the process's death. Raises ConfigError, which says `held`,
    where it is another's."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            lock(handle)
        except BlockingIOError:
            raise ConfigError(held) from None
        yield
    finally:
        os.close(handle)
