r"""Reads the chosen option out of a completion of a multiple-choice question: a letter A to J, or a digit 1 to 9."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

from unigrad.types import Reason, Verdict
from unigrad.verify.boxed import TAIL_CHARS, is_cut, last_boxed

_DECORATION = re.compile(
    # The last two are a model's special tokens, which a policy may sample anywhere.
    r"\\(?:text|textbf|textit|textrm|mbox|mathrm|mathbf|boxed|fbox)(?![a-zA-Z])|\\[ ,;:!]|[{}$*_`\"']"
    r"|<\|[^<>|\s]+\|>|</?(?:[a-z_]\w*|\w{2,})>"
)
_GOLD = re.compile(r"\(?(?:(?P<letter>[A-Ja-j])|(?P<digit>[1-9]))[).:]?")


@dataclass(frozen=True, slots=True)
class _Labels:
    """The patterns of one kind of label."""

    boxed: re.Pattern[str]
    """At the start of a box: `C`, `(C)`, `C.`, `C) and its text`, `Option C`."""
    stated: re.Pattern[str]
    """`the answer is C`, `Answer: (C)`, `the correct option is C`."""
    mentioned: re.Pattern[str]
    """`(C)`, `C.`, `C)`, `C:`, or C at the end of a line, but not after "not"."""
    another: re.Pattern[str]
    """After the chosen one: `, D.`, ` or (D)`, ` and D`. Who names two has not chosen."""


def _labels(plain: str, bracketed: str) -> _Labels:
    either = rf"(?:\((?P<bracketed>{bracketed})\)|(?P<plain>{plain})(?![\w'’]|\.[0-9]))"
    return _Labels(
        boxed=re.compile(rf"(?i:option|choice|answer)?:? ?\(? ?(?P<option>{bracketed}) ?(?:[).:,](?![0-9])|$)"),
        stated=re.compile(
            r"\b(?i:answer|option|choice)(?i: choice| option| letter)? ?(?i:is|would be|must be|should be|:) ?:? ?"
            rf"(?i:option |choice |letter )?{either}"
        ),
        mentioned=re.compile(
            rf"(?<!not )(?:\((?P<bracketed>{bracketed})\)|(?<![\w(.-])(?P<plain>{plain})(?= ?[.):](?!\d)| ?$))", re.M
        ),
        another=re.compile(rf"[.):]? ?(?:,? ?(?:and|or)\b|[,/&])? ?\(?(?:{plain})(?:[).:,;]| ?$)", re.M),
    )


_LETTERS = _labels("[A-J]", "[A-Ja-j]")
_DIGITS = _labels("[1-9]", "[1-9]")


def judge_choice(completion: str, answer: str) -> Verdict:
    r"""Compares the option that `completion` chooses with the gold label `answer`; `BAD_GOLD` where that is none.

    The choice is the option in the last complete box; without a box, the last one stated ("the answer is C", "Answer:
    (C)"); else the last one mentioned as a label: `(C)`, `C.`, `C)`, or at the end of a line. Only labels of the gold's
    kind count. Without box or brackets only upper case counts, because `a` is a word. A box without an option is no
    answer, nor is one that was never closed, nor two options side by side ("C or D").
    """
    gold = _GOLD.fullmatch(_plain(answer))
    if gold is None:
        return Verdict(False, None, Reason.BAD_GOLD)
    option = _chosen(completion, _LETTERS if gold["letter"] else _DIGITS)
    if option is None:
        return Verdict(False, None, Reason.UNPARSEABLE)
    correct = option == (gold["letter"] or gold["digit"]).upper()
    return Verdict(correct, option, Reason.RIGHT if correct else Reason.WRONG)


def _chosen(completion: str, labels: _Labels) -> str | None:
    boxed = last_boxed(completion)
    if boxed is not None:
        plain = _plain(boxed)
        match = labels.boxed.match(plain)
        return str(match["option"]).upper() if match and not labels.another.match(plain, match.end()) else None
    if is_cut(completion):
        return None
    text = _plain(completion[-TAIL_CHARS:])
    for match in deque(labels.stated.finditer(text), maxlen=1):
        return None if labels.another.match(text, match.end()) else _option(match)
    for match in deque(labels.mentioned.finditer(text), maxlen=1):
        return _option(match)
    return None


def _option(match: re.Match[str]) -> str:
    return str(match["bracketed"] or match["plain"]).upper()


def _plain(text: str) -> str:
    """`text` without markup, each run of blanks one space and each run of line ends one newline."""
    plain = _DECORATION.sub(" ", text)
    return re.sub(r" ?\n[\n ]*", "\n", re.sub(r"[^\S\n]+", " ", plain)).strip()
