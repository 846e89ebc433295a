r"""Finds the last complete box (`\boxed{...}`, `\fbox{...}`, `\boxed 5`) of a text, in one pass."""

from __future__ import annotations

import re

TAIL_CHARS = 200_000
"""Only this much of a completion's end is read. Answers stand at the end, and junk must not cost time."""

# A box without a brace holds a number alone: prose goes on after the word `\boxed`. `\{` and `\\` are not braces.
_TOKEN = re.compile(
    r"(?P<open>\\(?:boxed|fbox)\s*\{)|\\(?:boxed|fbox)[ \t]*(?P<number>-?(?:[0-9]|\.[0-9])[0-9.,/]*)|\\.|[{}]", re.S
)

_OPENING = re.compile(r"\\(?:boxed|fbox)\s*\{")


def last_boxed(text: str) -> str | None:
    r"""The content of the last complete box in the last `TAIL_CHARS` of `text`; of nested boxes, the innermost.

    A box whose braces do not balance is not complete. None where there is no complete box.
    """
    tail = text[-TAIL_CHARS:]
    if "box" not in tail:
        return None
    open_groups: list[int | None] = []  # where the content of an open box starts; None for a plain brace
    last_start, last_content = -1, None
    for token in _TOKEN.finditer(tail):
        if token["open"]:
            open_groups.append(token.end())
        elif token["number"]:
            last_start, last_content = token.start("number"), token["number"].rstrip(".,/")
        elif token[0] == "{":
            open_groups.append(None)
        elif token[0] == "}" and open_groups:
            start = open_groups.pop()
            if start is not None and start > last_start:
                last_start, last_content = start, tail[start : token.start()]
    return None if last_content is None else last_content.strip()


def is_cut(text: str) -> bool:
    """Whether `text`, which has no complete box, opens one: it was cut off in the middle of its answer."""
    return _OPENING.search(text[-TAIL_CHARS:]) is not None
