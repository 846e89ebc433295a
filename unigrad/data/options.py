"""Options of a multiple-choice problem: those that its text shows, and those that a row keeps in columns."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any

LETTERS = "ABCDEFGHIJ"
OPTION_COLUMNS = ("choices", "options", "candidates", "answer_choices")
"""Columns that hold all options of a problem, as a list, or by their labels."""
_ONE_COLUMN_EACH = (
    tuple(LETTERS),
    tuple(f"option_{letter.lower()}" for letter in LETTERS),
    tuple(f"option{letter}" for letter in LETTERS),
    tuple(f"option{number}" for number in range(1, 11)),
    tuple(f"op{letter.lower()}" for letter in LETTERS),
    tuple(f"choice_{letter.lower()}" for letter in LETTERS),
)

_MARKUP = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|boxed)(?![a-zA-Z])|\\[ ,;:!]|[{}$*_`]")
_FULL_WIDTH = str.maketrans("．：、）（　", ".:,)( ")
_LABEL = re.compile(r"(?:^|(?<=[\s,;(\[]))[(\[]?(?P<label>[A-J]) ?[)\].:,](?=\s|[^\sA-Za-z]|[A-Za-z]{2})", re.M)
_BRACKETED = re.compile(r"[(\[](?P<label>[A-J])[)\]]")
_NUMBERED_LINE = re.compile(r"\s*[(\[]?(?P<number>[1-9])[)\].:]\s*\S")
_COUNTED = re.compile(
    r"\bhow many (?:of (?:the|these|them)\b|statements|propositions|claims|conclusions|sentences)"
    r"|\b(?:how many|number of)\b[^.?\n]*\b(?:true|correct|false|wrong|hold|holds|valid)\b|几个|多少个",
    re.I,
)
_GOLD = re.compile(r"(?:(?:option|choice|answer)[ :]*)?[(\[]?\s*(?P<label>[A-J]|[1-9])\s*[)\]]?[.:]?", re.I)
_OWN_LABEL = re.compile(r"^\s*[(\[]?(?P<label>[A-J])\s*[)\].:]\s*(?=\S)")


def shown_option(problem: str, answer: str) -> str | None:
    """The label that `answer` gives ("B", "(B)", "**B.**") where `problem` shows an option of that label; else None.

    Options are labels in their order from A on: one a line, or several on one. Numbered ones count where they end the
    problem and it does not ask how many of them hold.
    """
    gold = _GOLD.fullmatch(" ".join(_plain(answer).split()))
    if gold is None:
        return None
    label = gold["label"].upper()
    text = _plain(problem)
    if label.isdigit():
        last_first = (_NUMBERED_LINE.match(line) for line in reversed(text.splitlines()) if line.strip())
        numbers = [option["number"] for option in takewhile(bool, last_first) if option]
        return label if len(numbers) >= 2 and label in numbers and not _COUNTED.search(text) else None
    return label if any(label in run for run in _label_runs(text)) else None


def with_options(problem: str, answer: Any, columns: Mapping[str, Any]) -> tuple[str, str] | None:
    """The problem with the options of its columns beneath it, and the right one's letter; None where there are none.

    The answer may be a label, an option's text, or (a whole number) its position from 0, as `datasets` counts classes.
    Raises ValueError, half a line, where it is none of these or more than one.
    """
    found = _options(columns)
    if found is None:
        return None
    name, labels, texts = found
    if not 2 <= len(texts) <= len(LETTERS) or len(set(labels)) < len(labels):
        raise ValueError(f"column {name!r} holds {len(texts)} options; 2 to {len(LETTERS)}, with labels of their own")
    place = _place(answer, labels, texts)
    if place is None:
        raise ValueError(f"the answer {answer!r} is no label, text or position of the options in {name!r}")
    lines = [f"{letter}. {text}" for letter, text in zip(LETTERS, texts, strict=False)]
    runs = _label_runs(_plain(problem))
    shows = any(len(run) == len(texts) for run in runs) and all(text in problem for text in texts)
    return problem if shows else "\n".join([problem, *lines]), LETTERS[place]


def _place(answer: Any, labels: Sequence[str], texts: Sequence[str]) -> int | None:
    if isinstance(answer, bool) or answer is None:
        return None
    if isinstance(answer, int) and str(answer) not in labels:
        return answer if 0 <= answer < len(texts) else None
    said = str(answer).strip()
    matching = [index for index, text in enumerate(texts) if text.strip().casefold() == said.casefold()]
    gold = _GOLD.fullmatch(" ".join(_plain(said).split()))
    if gold and gold["label"].upper() in labels and (not matching or not said.isdigit()):
        return labels.index(gold["label"].upper())
    return matching[0] if len(matching) == 1 else None


def _options(columns: Mapping[str, Any]) -> tuple[str, list[str], list[str]] | None:
    """The column's name, the options' labels and their texts."""
    for name in OPTION_COLUMNS:
        value = columns.get(name)
        if isinstance(value, str) and value.strip()[:1] in ("[", "{"):
            try:
                value = json.loads(value)
            except ValueError:
                continue
        pairs = list(_pairs(value))
        if pairs:
            labels, texts = zip(*pairs, strict=True)
            return name, list(labels), list(texts)
    for names in _ONE_COLUMN_EACH:
        values = [columns[name] for name in takewhile(lambda name: columns.get(name) not in (None, ""), names)]
        if len(values) >= 2:
            return f"{names[0]}, {names[1]}, …", list(LETTERS[: len(values)]), [str(value).strip() for value in values]
    return None


def _pairs(value: Any) -> Iterator[tuple[str, str]]:
    """(label, text) of each option, in whichever way a column holds them."""
    match value:
        case {"text": [*texts], "label": [*labels]} if len(texts) == len(labels):
            yield from ((str(label), str(text)) for label, text in zip(labels, texts, strict=True))
        case dict() if value and all(re.fullmatch(r"[A-J1-9]", str(label)) for label in value):
            yield from ((str(label), str(text)) for label, text in value.items() if text is not None)
        case [*items]:
            for letter, item in zip(LETTERS, items, strict=False):
                match item:
                    case {"label": label, "text": text} | {"key": label, "value": text}:
                        yield str(label), str(text)
                    case str():
                        own = _OWN_LABEL.match(item)
                        yield letter, item[own.end() :].strip() if own and own["label"] == letter else item.strip()
                    case int() | float():
                        yield letter, str(item)


def _label_runs(text: str) -> list[set[str]]:
    """The labels A, B, … that stand in `text` in this order: on lines of their own, in brackets, or on one line."""
    runs: list[set[str]] = []
    for pattern in (_LABEL, _BRACKETED):
        found = [match["label"] for match in pattern.finditer(text)]
        run: list[str] = []
        for label in found:
            if label == "A":
                run = ["A"]
            elif run and label == LETTERS[len(run)]:
                run.append(label)
            if len(run) >= 2:
                runs.append(set(run))
    return runs


def _plain(text: str) -> str:
    return _MARKUP.sub("", text.translate(_FULL_WIDTH)).strip()
