r"""The final answer of a text that has no box: its last number, with the formula or the words that it is part of."""

from __future__ import annotations

import re

TAIL_CHARS = 4_000
"""A text without a box is read from its end so far back: its answer stands there or nowhere."""

_ANSWER_TAG = re.compile(r"<answer>(?P<answer>(?:(?!</?answer>).){1,2000})</answer>", re.S | re.I)
_FORMULAS = re.compile(r"\$\$(.+?)\$\$|(?<!\\)\$(?!\$)([^$\n]+?)(?<!\\)\$(?![0-9])|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.S)
_PLAIN_WORDS = re.compile(r"(?<![\\a-zA-Z{])(?!sqrt|sin|cos|tan|log)[a-z]{3,}(?![a-zA-Z}])")
_CJK = "\u3040-\u30ff\u3400-\u9fff"
_TOKENS = re.compile(rf"[{_CJK}，。；：！？、]+|(?:(?![{_CJK}，。；：！？、])\S)+")
_WORD = re.compile(rf"(?<![\\A-Za-z])[A-Za-z]{{2,}}|[{_CJK}]")
_STARTS = re.compile(r"[=<>+*/^×·÷≤≥≈±]|[-−][^0-9]|[-−]$|\\(?:times|cdot|leq?|geq?|pm|div|approx)")
_ENDS = re.compile(r"(?:[=<>+*/^×·÷≤≥≈±−(,-]|\\(?:times|cdot|leq?|geq?|pm|div|approx))$")
_UNIT_POWER = re.compile(r"[0-9] ?(?:(?:[a-z]{2}|[ms])(?:\^\{?-?[0-9]|/[a-z]+\^?[0-9]|[23]))$")
_TIMES = re.compile(r"(?<=[0-9)]) ?[xX] ?(?=[0-9(])|(?<=[0-9]) [xX] ?$")
_OUTER = "*_`\"'“”‘’#|~"
_LIST_INTRODUCED = re.compile(
    r"(?:\b(?:is|are|be|equals?|answers?|solutions?|values?|roots?)\b|[:：=]|[是为])\s*(?:[*_`$]*)$", re.I
)
_REJECTED = re.compile(r"(?:\bnot|n't|\brather than|\binstead of|\bwithout|不是|而不是)\s*[*_`$(]*$", re.I)
_CHANGED = re.compile(
    r"(?:\b(?:negative|minus|at (?:least|most)|(?:more|less|greater|fewer|larger|smaller|bigger) than|over|under|above"
    r"|below|up to|between|exceeds)|至少|至多|负|超过)\s*[*_`$]*$",
    re.I,
)
_FOLLOWS = re.compile(
    r"[*_`$]* *(?P<words>(?:hundred|thousand|million|billion|trillion|dozen|lakh|crore|percent|per cent|plus|minus"
    r"|times|squared|cubed|factorial|halves|half|thirds?|quarters?|fourths?|fifths?|sixths?|or (?:more|less|fewer)"
    r"|base|\(?mod|[百千万亿])(?:[ -]+[a-z0-9]+){0,3}[!)]?)",
    re.I,
)


def final_answer(text: str) -> str | None:
    """The last `<answer>`, else the last number that the text does not reject ("5, not 3"), with what it belongs to.

    Within dollar signs that is the whole formula; else all that stands beside it without a word in between. A list is
    taken whole where "is", "are" or a colon introduces it. None where there is no number.
    """
    tail = text[-TAIL_CHARS:]
    tags = list(_ANSWER_TAG.finditer(tail))
    if tags:
        return tags[-1]["answer"].strip() or None
    end = len(tail)
    for _ in range(8):
        digit = _last_digit(tail, end)
        if digit is None:
            return None
        if power := _UNIT_POWER.search(tail[: digit + 1]):
            digit = power.start()
        start, stop = _span(tail, digit)
        if _REJECTED.search(tail[max(0, start - 40) : start]) is None:
            return _answer(tail, start, stop)
        end = start
    return None


def _last_digit(text: str, end: int) -> int | None:
    for position in range(end - 1, -1, -1):
        if "0" <= text[position] <= "9":
            return position
    return None


def _span(text: str, digit: int) -> tuple[int, int]:
    """Where the formula around a digit starts and stops."""
    for formula in _FORMULAS.finditer(text):
        if formula.start() <= digit < formula.end():
            content = next(group for group in formula.groups() if group is not None)
            if not _PLAIN_WORDS.search(re.sub(r"\\[a-z]+ ?\{[^{}]*\}", "", content)):
                return formula.start(), formula.end()
    line_start = text.rfind("\n", 0, digit) + 1
    line_end = text.find("\n", digit)
    line = text[line_start : line_end if line_end >= 0 else len(text)]
    tokens = [(match.start() + line_start, match.end() + line_start, match[0]) for match in _TOKENS.finditer(line)]
    here = next(index for index, (start, end, _) in enumerate(tokens) if start <= digit < end)
    first = last = here
    while first and _joins(tokens[first - 1][2], text[tokens[first][0] : tokens[last][1]], start=first == 1):
        first -= 1
    while last + 1 < len(tokens) and _joins_after(text[tokens[first][0] : tokens[last][1]], tokens[last + 1][2]):
        last += 1
    return tokens[first][0], tokens[last][1]


def _joins(before: str, formula: str, start: bool) -> bool:
    """Whether a token belongs to the formula after it."""
    bare, formula = before.strip(_OUTER + "$"), formula.strip(_OUTER + "$")
    if before in ("x", "X", "*") and not start and formula[:1].isdigit():  # 9 x 30
        return True
    if re.match("[xX] [0-9]", formula) and bare[-1:].isdigit():
        return True
    if formula.count(")") + formula.count("]") > formula.count("(") + formula.count("["):
        return True
    if not bare or _WORD.search(bare) or bare[-1] in ".:;!?,":
        return False
    if formula.startswith("(mod") and bare[-1:].isdigit():
        return True
    if start and bare in ("-", "−", "*", "+", "•"):  # a bullet
        return False
    if _ENDS.search(bare) or _STARTS.match(formula):
        return True
    return (
        bare[-1].isdigit()
        and re.match(r"[0-9]{3}(?![0-9])|[0-9]+/[0-9]", formula) is not None
        and bare[-3:].isdigit() | ("/" in formula)
    )


def _joins_after(formula: str, after: str) -> bool:
    formula, bare = formula.rstrip(_OUTER), after.lstrip(_OUTER)
    if formula[-1:] in ".:;!?,":
        return formula.count("(") + formula.count("[") > formula.count(")") + formula.count("]")
    if not bare or (_WORD.search(bare) and not _STARTS.match(bare)):
        return False
    return _ENDS.search(formula) is not None or (
        _STARTS.match(bare) is not None and not re.match(r"[-−–—]{1,3}$", bare)
    )


def _answer(text: str, start: int, stop: int) -> str | None:
    before = text[max(0, start - 60) : start]
    answer = _bare(text[start:stop])
    if "=" in answer and not _FORMULAS.fullmatch(text[start:stop].strip(_OUTER)):
        answer = re.sub(r"\*\*|\\?\$", "", answer)  # money and markup between the parts of a sum
        summed, _, result = answer.rpartition("=")
        # 9 x 30 = 270: words may stand within the sum, and cut it.
        if not re.search("[A-Za-z]", _TIMES.sub("", summed)):
            answer = result.strip()
    if not answer:
        return None
    listed = _listed(text, start)
    if listed:
        return f"{listed}, {answer}"
    if changed := _CHANGED.search(before):
        answer = f"{changed[0].strip(' *_`$')} {answer}"
    if text[stop - 1 : stop] not in ".,;:" and (follows := _FOLLOWS.match(text[stop : stop + 60])):
        answer = f"{answer} {follows['words']}"
    return answer


def _listed(text: str, start: int) -> str | None:
    """The items in front of a list's last, where the list is introduced as the answer."""
    items: list[str] = []
    position = start
    for _ in range(20):
        joint = re.search(r"(?:,|;|,? (?:and|or)|[和或、，])[ $*]*$", text[max(0, position - 40) : position])
        if joint is None:
            break
        end = position - (min(position, 40) - joint.start())
        digit = _last_digit(text, end)
        if digit is None or text[digit + 1 : end].strip(_OUTER + "$)]}% "):
            break
        item_start, item_stop = _span(text, digit)
        if item_stop > end + 3 or item_start >= position:
            break
        items.append(_bare(text[item_start:item_stop]))
        position = item_start
    if items and ("=" in items[-1] or _LIST_INTRODUCED.search(text[max(0, position - 60) : position])):
        return ", ".join(reversed(items))
    return None


def _bare(formula: str) -> str:
    bare = formula.strip().strip(_OUTER).strip()
    money = bare.startswith("$") and not bare.endswith("$")
    bare = re.sub(
        r"^(?:\$\$?|\\\(|\\\[)|(?:\$\$?|\\\)|\\\])$", "", bare.rstrip(".,;:!?" if not bare.endswith("!") else ".,;:?")
    )
    bare = bare.strip().strip(_OUTER).rstrip(" .,;:?").lstrip(" ,;:?")
    if bare.endswith("!") and not re.search(r"[0-9a-z)]!$", bare):
        bare = bare.rstrip("!")
    if bare.endswith(")") and bare.count(")") > bare.count("("):
        bare = bare[:-1]
    if bare.startswith("(") and bare.count("(") > bare.count(")"):
        bare = bare[1:]
    return bare if not money else bare.strip("$ ")
