"""Options of a multiple-choice problem: those that its text shows, and those that a row keeps in columns."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
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

_OPERANDS = "A, B, …"
"""These columns may be a problem's numbers as well: where the answer is none of them, they are no options."""
_RIGHT_AND_WRONG = (
    ("correct_answer", ("distractor1", "distractor2", "distractor3")),
    ("Correct Answer", ("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")),
    ("correct_answer", ("incorrect_answers",)),
    ("best_answer", ("incorrect_answers",)),
)
"""Columns of the right option and of the wrong ones, which stand in no order."""

_MARKUP = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|boxed)(?![a-zA-Z])|\\[ ,;:!]|[{}$*_`]")
_QUAD = re.compile(r"\\q?quad(?![a-zA-Z])")
_BREAK = re.compile(r"<br ?/?>|\\\\\n?")
_FULL_WIDTH = str.maketrans("．：、）（　", ".:.)( ")
# A sentence may end with a point's name: an option's label with a full stop begins a line, or follows a sentence.
_FIRST = r"(?:^|(?<=[.?!:;。？！，)]) ?|  +|(?<=[\u3040-\u9fff]))"
_LABEL = re.compile(
    rf"(?:{_FIRST}\(?(?P<first>A) ?[.:]|(?<![A-Za-z\\(])(?P<next>[B-J]) ?[.:]|(?:^|(?<=[\s,;]))(?P<closed>[A-Ja-j])\))"
    r"(?=\s*[^\s.:])",
    re.M,
)
_BRACKETED = re.compile(r"(?<!\w)[(\[](?P<closed>[A-J])[)\]]")
_NUMBERED_LINE = re.compile(r"\s*[(\[]?(?P<number>[1-9])[)\].:]\s*\S")
_COUNTED = re.compile(
    r"\bhow many (?:of (?:the|these|them)\b|statements|propositions|claims|conclusions|sentences)"
    r"|\b(?:how many|number of)\b[^.?\n]*\b(?:true|correct|false|wrong|hold|holds|valid)\b|几个|多少个",
    re.I,
)
_ASKING = re.compile(r"\b(?:find|count|determine|compute|calculate|how many)\b", re.I)
_GOLD = re.compile(
    r"(?:(?:option|choice|answer)[ :]*)?[(\[]?\s*(?P<label>[A-J]|[1-9])\s*(?:[)\]]?[.:]?|[)\].:] ?(?P<text>\S.*))", re.I
)
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
        if gold["text"]:
            return None
        last_first = (line for line in reversed(text.splitlines()) if line.strip())
        lines = list(takewhile(_NUMBERED_LINE.match, last_first))
        numbers = {line.strip(" ([")[0] for line in lines}
        asks = _COUNTED.search(text) or any(map(_ASKING.search, lines))
        return label if len(numbers) >= 2 and label in numbers and not asks else None
    return label if any(label in run for run in _label_runs(text)) else None


def with_options(problem: str, answer: Any, columns: Mapping[str, Any]) -> tuple[str, str] | None:
    """The problem with the options of its columns beneath it, and the right one's letter; None where there are none.

    The answer may be a label, an option's text, or (a whole number) its position from 0, as `datasets` counts classes.
    Raises ValueError, half a line, where it is none of these or more than one.
    """
    found = _options(columns)
    if found is None:
        return _shuffled(problem, columns)
    name, labels, texts, numeric = found
    if not 2 <= len(texts) <= len(LETTERS) or len(set(labels)) < len(labels):
        raise ValueError(f"column {name!r} holds {len(texts)} options; 2 to {len(LETTERS)}, with labels of their own")
    place = _place(answer, labels, texts, numeric)
    if place is None:
        if name == _OPERANDS:
            return None
        raise ValueError(f"the answer {answer!r} is no label, text or position of the options in {name!r}")
    runs = _label_runs(_plain(problem))
    shows = any(len(run) == len(texts) for run in runs) and all(text in problem for text in texts)
    return problem if shows else _shown(problem, texts), LETTERS[place]


def _place(answer: Any, labels: Sequence[str], texts: Sequence[str], numeric: bool) -> int | None:
    if isinstance(answer, bool) or answer is None:
        return None
    if isinstance(answer, int) and str(answer) not in labels and not numeric:
        return answer if 0 <= answer < len(texts) else None
    said = str(answer).strip()
    matching = [index for index, text in enumerate(texts) if text.strip().casefold() == said.casefold()]
    gold = _GOLD.fullmatch(" ".join(_plain(said).split()))
    if gold and not gold["text"] and gold["label"].upper() in labels and (not matching or not said.isdigit()):
        return labels.index(gold["label"].upper())
    return matching[0] if len(matching) == 1 else None


def _shuffled(problem: str, columns: Mapping[str, Any]) -> tuple[str, str] | None:
    """The same of a right option and wrong ones in columns of their own, in the order of their hashes."""
    for right_name, wrong_names in _RIGHT_AND_WRONG:
        if not all(columns.get(name) for name in (right_name, *wrong_names)):
            continue
        right = str(columns[right_name]).strip()
        wrong = (columns[name] if isinstance(columns[name], list) else [columns[name]] for name in wrong_names)
        options = [right, *(str(item).strip() for items in wrong for item in items)]
        if len(set(options)) < len(options) or len(options) > len(LETTERS):
            raise ValueError(
                f"columns {right_name!r} and {wrong_names[0]!r} hold {len(options)} options, not all different"
            )
        there = [line.partition(". ")[2] for line in problem.splitlines()[-len(options) :]]
        if sorted(there) == sorted(options) and problem.endswith(_shown("", there)):
            return problem, LETTERS[there.index(right)]
        options = in_hash_order(problem, options)
        return _shown(problem, options), LETTERS[options.index(right)]
    return None


def in_hash_order(problem: str, options: Iterable[str]) -> list[str]:
    """Options whose right one always comes first, in an order that tells nothing and is the same on any day."""
    return sorted(options, key=lambda option: hashlib.sha256(f"{problem}\n{option}".encode()).digest())


def _shown(problem: str, texts: Sequence[str]) -> str:
    return "\n".join([problem, *(f"{letter}. {text}" for letter, text in zip(LETTERS, texts, strict=False))])


def _options(columns: Mapping[str, Any]) -> tuple[str, list[str], list[str], bool] | None:
    """The column's name, the options' labels and texts, and whether they are numbers."""
    for name in OPTION_COLUMNS:
        value = columns.get(name)
        text = value if isinstance(value, str) and value.strip() else ""
        if text:
            value = _parsed(text.strip())
        pairs = list(_pairs(value))
        if text and not pairs:
            raise ValueError(f"column {name!r} holds options that are no list: {text[:40]!r}")
        if pairs:
            numeric = isinstance(value, list) and any(isinstance(item, int | float) for item in value)
            return name, [label for label, _ in pairs], [text for _, text in pairs], numeric
    for names in _ONE_COLUMN_EACH:
        values = [columns[name] for name in takewhile(lambda name: columns.get(name) not in (None, ""), names)]
        if len(values) >= 2:
            labels = list(LETTERS[: len(values)])
            return f"{names[0]}, {names[1]}, …", labels, [str(value).strip() for value in values], False
    return None


def _parsed(text: str) -> Any:
    """A list or mapping that a column of text keeps, as JSON or as Python writes it."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return None


def _pairs(value: Any) -> Iterator[tuple[str, str]]:
    """(label, text) of each option, in whichever way a column holds them."""
    match value:
        case {"text": [*texts], "label": [*labels]} if len(texts) == len(labels):
            yield from ((str(label), str(text)) for label, text in zip(labels, texts, strict=True))
        case dict() if value and all(re.fullmatch(r"[A-J1-9]", str(label)) for label in value):
            yield from ((str(label), str(text)) for label, text in value.items() if text is not None)
        case [*items]:
            for place, item in enumerate(items):
                letter = LETTERS[place] if place < len(LETTERS) else str(place + 1)
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
        run: list[str] = []
        for match in pattern.finditer(text):
            label = next(group for group in match.groups() if group)
            if label.upper() == "A":
                run = ["A"]
            elif run and label.upper() == LETTERS[len(run) % len(LETTERS)]:
                run.append(label.upper())
            if len(run) >= 2:
                runs.append(set(run))
    return runs


def _plain(text: str) -> str:
    return _MARKUP.sub("", _BREAK.sub("\n", _QUAD.sub("  ", text.translate(_FULL_WIDTH)))).strip()
