"""The command line: `unigrad COMMAND …`, each command a file of its own with `parser()` and `run(arguments)`.

Nothing here imports torch before a command's input has been read, so that `--help` and every usage error are instant.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module

from unigrad.cli.parser import Parser
from unigrad.config.credentials import check_no_credentials
from unigrad.config.yaml_text import is_sound
from unigrad.errors import ConfigError, UserCodeError, as_line, nearest, one_line, shortened
from unigrad.plugins import theirs

COMMANDS = {
    "train": "train a model: unigrad train [RECIPE] [--section.key VALUE ...]",
    "evaluate": "measure a model: unigrad evaluate MODEL --suite paper",
    "sample": "what a model says: unigrad sample MODEL --problem TEXT",
    "compare": "train methods side by side: unigrad compare [RECIPE] --methods a,b,c",
    "bench": "what a training step costs on this machine: unigrad bench [MODEL]",
    "report": "the paper's figures and tables of runs: unigrad report RUN [RUN ...]",
    "algorithms": "print Table 1, or the methods: every declaration as data",
}


OF_THE_SYSTEM = frozenset(
    {
        *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM),
        *(errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
    }
)
"""Errors that say all there is to know: what a name, a disk or a permission does not allow."""
LONGEST_ARGUMENT = 20_000
"""Characters; a prompt template may be a text of some pages."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns its exit code: 0 on success, 2 on a usage or configuration error, 1 on a failure at run
    time, and 128 plus the signal's number when a run was asked to stop."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _open_standard_streams()
    _keep_dependencies_quiet()
    try:
        for before, argument in zip(["", *arguments], arguments, strict=False):
            _check_argument(argument)
            name = next((each.partition("=")[0] for each in (argument, before) if each.startswith("--")), "an argument")
            check_no_credentials(argument, name)
        if not arguments or arguments[0].startswith("-"):
            return _without_command(arguments)
        command, *rest = arguments
        if command not in COMMANDS:
            raise ConfigError(f"unknown command {command!r}; did you mean {nearest(command, COMMANDS)!r}?")
        code: int = import_module(f"unigrad.cli.{command}").run(rest)
        return code
    except ConfigError as error:
        sys.stderr.write(f"unigrad: error: {as_line(error)}\n")
        return 2
    except BrokenPipeError:
        # Whoever read this has seen enough (`| head`). What Python still holds would fail again as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except UserCodeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("unigrad: stopped\n")
        return 130
    except Exception as error:  # noqa: BLE001
        if trace := theirs(error):
            sys.stderr.write("".join(traceback.format_exception(type(error), error, trace)))
            return 1
        sys.stderr.write(f"unigrad: error: {as_line(_unforeseen(error))}\n")
        return 1


def _unforeseen(error: Exception) -> str:
    """What to say of an error that nothing expected: a line, the file that its traceback now lies in, and its notes.

    Of the operating system's errors the line says what and where, and of most that is all; any other is a bug of ours
    or of what we stand on.
    """
    from unigrad.versions import untested

    advice = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
    for line in untested():
        error.add_note(f"not tested with {line}")
    if isinstance(error, OSError) and error.strerror:
        what = ": ".join(shortened(str(each), 200) for each in (error.strerror, error.filename) if each is not None)
        if error.errno in OF_THE_SYSTEM and error.filename is not None:
            return what
    else:
        what = f"unexpected {type(error).__name__}: {one_line(error)}"
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="unigrad-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.write("".join(traceback.format_exception(error)))
    except OSError:  # no room for it
        return what + advice
    return f"{shortened(what, 1000)} (traceback: {file.name}){advice}"


def _check_argument(argument: str) -> None:
    """Raises ConfigError on a text that no file name, no recipe and no terminal can take."""
    value = argument.partition("=")[2] if argument.startswith("--") else argument
    if not is_sound(argument):
        raise ConfigError(f"argument {shortened(argument, 60)!r} holds a NUL, or bytes that are not UTF-8")
    if len(argument) > LONGEST_ARGUMENT:
        raise ConfigError(
            f"argument {shortened(argument, 60)!r} has {len(argument):,} characters; at most {LONGEST_ARGUMENT:,}"
        )
    if value.startswith("~") and os.path.expanduser(value).startswith("~"):  # noqa: PTH111
        raise ConfigError(f"argument {shortened(argument, 60)!r}: there is no such user's home")


def _without_command(arguments: Sequence[str]) -> int:
    parser = Parser(prog="unigrad", description="One gradient for LLM post-training (arXiv:2509.04419).")
    parser.add_argument("--version", action="store_true", help="print the versions of unigrad and what it stands on")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, description in COMMANDS.items():
        commands.add_parser(name, help=description)
    if arguments == ["--version"]:
        from unigrad.versions import version_lines

        sys.stdout.write("\n".join(version_lines()) + "\n")
        return 0
    if arguments and arguments[0] not in ("-h", "--help"):
        raise ConfigError(f"unknown option {arguments[0]!r}; see unigrad --help")
    parser.print_help()
    return 0


def _open_standard_streams() -> None:
    """Those that are closed go nowhere: else the next file that is opened would take their place, and their text."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            # It takes the lowest free number, which is the stream's: the lower ones are open by now.
            nowhere = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(nowhere, "r" if name == "stdin" else "w"))


def _keep_dependencies_quiet() -> None:
    """What they deprecate is for those who call them: the tests make an error of it, the terminal is the user's."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # Behind all other filters, so that one of the user's, or of the tests', comes first.
    warnings.filterwarnings("ignore", category=FutureWarning, append=True)
