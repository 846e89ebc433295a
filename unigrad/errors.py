"""What is wrong, in one line, with the nearest valid choice. The standard library alone: every room may use it."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable


class ConfigError(ValueError):
    """A usage or configuration error: one line saying what is wrong, where, and the nearest valid choice."""


class UserCodeError(Exception):
    """A function or a module of the user's raised `__cause__`: a bug in their code, to be shown at their line."""

    def __str__(self) -> str:
        """The traceback of what was raised, from the user's first line on."""
        cause = self.__cause__
        assert cause is not None  # it is always raised from something
        # The first line is ours, which called; importlib's own may follow.
        trace = cause.__traceback__.tb_next if cause.__traceback__ else None
        while trace and trace.tb_next and trace.tb_frame.f_code.co_filename.startswith("<frozen importlib"):
            trace = trace.tb_next
        return "".join(traceback.format_exception(type(cause), cause, trace)).rstrip()


class RewardError(ValueError):
    """A reward function asks for what there is not, or returned what is no reward: one line that names it."""


LONGEST_LINE = 2000
"""Characters of an error message."""


def nearest(name: str, known: Iterable[str], cutoff: float = 0.0) -> str | None:
    """The likeliest of the `known` names; None where none is as similar (0 to 1) as `cutoff`, or there is none."""
    return next(iter(difflib.get_close_matches(name[:100], [*known], n=1, cutoff=cutoff)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The tail of an error message: the nearest known name where one is alike, else all of them."""
    known = list(known)
    near = nearest(name, known, cutoff=0.5)
    return f"; did you mean {near!r}?" if near else f"; there are: {', '.join(known)}"


def shortened(text: str, most: int) -> str:
    """`text`, with what is in the middle of a longer one than `most` characters left out."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most // 2) :]}"


def as_line(message: object) -> str:
    """A message as the one line that a terminal can show: no line breaks, no control characters, not too long."""
    text = " ".join(str(message).split())
    return shortened("".join(each if each.isprintable() else repr(each)[1:-1] for each in text), LONGEST_LINE)


def one_line(error: BaseException) -> str:
    """The first paragraph of what an error says, or its type where it says nothing."""
    paragraph = str(error).strip().split("\n\n", 1)[0]
    return " ".join(paragraph.split()).rstrip(": ") or type(error).__name__
