r"""Finds the last complete box (`\boxed{...}`, `\fbox{...}`, `\boxed 5`) of a text, in one pass."""

from __future__ import annotations

import re
from dataclasses import dataclass

TAIL_CHARS = 200_000
"""Only this much of a completion's end is read. Answers stand at the end, and junk must not cost time."""

# A box without a brace holds a number alone: prose goes on after the word `\boxed`. `\{` and `\\` are not braces.
_TOKEN = re.compile(
    r"(?P<open>\\(?:boxed|fbox)\s*\{)|\\(?:boxed|fbox)[ \t]*(?P<number>-?(?:[0-9]|\.[0-9])[0-9.,/]*)|\\.|[{}]", re.S
)

_SAME_SENTENCE = re.compile(
    r"(?!.*(?:[.!?;。？！](?:\s|$|\$)|=|\b(?:so|thus|hence|therefore|wait|actually|no|not|instead|rather|but|which|then|however"
    r"|since|because|where|gives?|yields?|implies|becomes|leaves|from|using|to|by|after|making|simplif\w+)\b|\\(?:implies"
    r"|Rightarrow|to|approx)\b|[a-z]{4,} [a-z]{2,} [a-z]{2,} [a-z]{2,}))[^\n]{0,60}"
    r"|[^\n.]{0,30}\b[a-zA-Z](?:_\{?[0-9]\}?)? ?= ?\$?",
    re.I,
)
"""What may stand between two boxes of one list. Where a sentence goes on from a box ("so", "="), that is none of it."""

_OPENING = re.compile(r"\\(?:boxed|fbox)\s*\{")


@dataclass(frozen=True, slots=True)
class _Box:
    start: int
    end: int
    content: str


def last_boxed(text: str) -> str | None:
    r"""The content of the last complete box in the last `TAIL_CHARS` of `text`; of nested boxes, the innermost.

    Boxes that close one sentence together are a list, joined by commas: `x = \boxed{3} or x = \boxed{5}`; a box that
    the sentence goes on from ("so", "wait", "=") is not. A box whose braces do not balance is not complete. Doubled
    backslashes, as of a text that was escaped twice, are read as one. None where there is no complete box.
    """
    tail = text[-TAIL_CHARS:].replace("\x08oxed", r"\boxed")  # "\b" in a string that was not raw
    if "box" not in tail:
        return None
    boxes = _boxes(tail)
    if not boxes and "\\\\" in tail:
        tail = tail.replace("\\\\", "\\")
        boxes = _boxes(tail)
    if not boxes:
        return None
    last = boxes[-1]
    contents = [last.content]
    for box in reversed(boxes[:-1]):
        if not _SAME_SENTENCE.fullmatch(tail[box.end : last.start]):
            break
        if box.content and box.content not in contents:
            contents.append(box.content)
        last = box
    return ", ".join(reversed(contents))


def _boxes(tail: str) -> list[_Box]:
    """The complete boxes, in their order; of nested ones the innermost content, and the outermost place."""
    open_groups: list[tuple[int, int] | None] = []  # where an open box starts, and its content; None for a plain brace
    boxes: list[_Box] = []
    for token in _TOKEN.finditer(tail):
        if token["open"]:
            open_groups.append((token.start(), token.end()))
        elif token["number"]:
            boxes.append(_Box(token.start(), token.end(), token["number"].rstrip(".,/")))
        elif token[0] == "{":
            open_groups.append(None)
        elif token[0] == "}" and open_groups:
            opened = open_groups.pop()
            if opened is None:
                continue
            content = tail[opened[1] : token.start()].strip()
            while boxes and boxes[-1].start > opened[0]:
                content = boxes.pop().content
            boxes.append(_Box(opened[0], token.end(), content))
    return boxes


def is_cut(text: str) -> bool:
    """Whether `text`, which has no complete box, opens one: it was cut off in the middle of its answer."""
    return _OPENING.search(text[-TAIL_CHARS:]) is not None
