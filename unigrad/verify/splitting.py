"""Texts cut and unwrapped by their brackets."""

from __future__ import annotations

import re

from unigrad.verify.numbers import plain_number

_OPEN, _CLOSE = "([{", ")]}"
PROSE = re.compile(r"⟨([^⟨⟩]*)⟩")


def split(text: str, pattern: re.Pattern[str]) -> tuple[list[str], list[str]]:
    """`text` cut at the matches outside all brackets, and the matches."""
    depth, start, parts, signs = 0, 0, list[str](), list[str]()
    position = 0
    while position < len(text):
        character = text[position]
        if character == "⟨":
            position = text.index("⟩", position) + 1
            continue
        if character == "\\" and text[position + 1 : position + 2] in ("{", "}"):
            depth += 1 if text[position + 1] == "{" else -1
            position += 2
            continue
        if text.startswith(r"\begin", position):
            depth += 1
        elif text.startswith(r"\end", position):
            depth -= 1
        if character in _OPEN:
            depth += 1
        elif character in _CLOSE:
            depth -= 1
        match = pattern.match(text, position) if depth <= 0 else None
        if match and match.end() > position:
            parts.append(text[start:position])
            signs.append(match[0])
            start = position = match.end()
            continue
        position += 1
    return [*parts, text[start:]], signs


def without_outer(text: str) -> str:
    """Without brackets or braces around all of it that hold one thing."""
    while len(text) > 2 and text[0] == "{" and text[-1] == "}" and closes_at_end(text):
        text = text[1:-1].strip()
    if len(text) > 2 and text[0] == "(" and text[-1] == ")" and closes_at_end(text) and not re.search("[,;]", text):
        inner = text[1:-1].strip()
        if plain_number(inner) is not None or PROSE.fullmatch(inner) or re.fullmatch(r"[A-Za-z]", inner):
            return inner
    return text


def closes_at_end(text: str) -> bool:
    """Whether the bracket that `text` begins with closes at its end, whichever kind it is."""
    depth = 0
    for position, character in enumerate(text):
        if character in _OPEN and text[position - 1 : position] != "\\":
            depth += 1
        elif character in _CLOSE and text[position - 1 : position] != "\\":
            depth -= 1
            if depth == 0:
                return position == len(text) - 1
    return False
