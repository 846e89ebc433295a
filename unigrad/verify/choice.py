r"""Reads the chosen option out of a completion of a multiple-choice question: a letter A to J, or a digit 1 to 9."""

from __future__ import annotations

import re
from dataclasses import dataclass

from unigrad.types import Reason, Verdict
from unigrad.verify.boxed import TAIL_CHARS, is_cut, last_boxed
from unigrad.verify.notation import FULL_WIDTH

_FULL_WIDTH = str.maketrans(
    FULL_WIDTH | dict.fromkeys("—–−", "-") | {"。": ".", "、": ",", "【": "(", "】": ")", "“": "", "”": "", "’": "'"}
)
_DECORATION = re.compile(
    r"\\(?:text|textbf|textit|textrm|textsf|texttt|textnormal|mbox|hbox|emph|underline|textcircled|mathrm|mathbf"
    r"|mathsf|mathit|mathtt|boldsymbol|bm|boxed|fbox|rm|bf|it|sf|tt|checkmark|displaystyle|large|Large|left|right|quad"
    r"|qquad|operatorname)(?![a-zA-Z])|\\[ ,;:!()\[\]]|[{}$*_`\"✓✔✅~]"
)
_GOLD = re.compile(r"(?:(?i:option|choice) )?[(\[]? ?(?:(?P<letter>[A-Ja-j])|(?P<digit>[1-9])) ?[)\]]?[).:]?")
_ANSWER_TAG = re.compile(r"<answer>(?P<answer>(?:(?!</?answer>).){0,500})</answer>", re.S | re.I)
_NEGATED_BEFORE = re.compile(
    r"(?:\b(?:not|never|neither|nor|rules? out|ruled out|ruling out|eliminat\w+|exclud\w+|reject\w*|discard\w*"
    r"|except(?: for)?|instead of|rather than|unlike|without|than|none of|against|over|whether|unsure|(?:not sure"
    r"|doubt|don't think|do not think|don't believe|do not believe|doesn't seem)(?: (?:if|that|it|is|it's|its|about"
    r"|the|answer|be|to))*)|n't(?: be)?|\bnone of [^.;\n]{0,40}|\bno es|\bnicht|\bas (?:are|is)|\bso are|\b(?:could"
    r"|might|may|can)(?: also)? be|\b(?:perhaps|maybe|possibly)|n'est pas|não é|不是|不选|排除|而非)(?: (?:be|the"
    r"|option|options|choice|choices|answer|either|both|all|of|pick|choose"
    r"|select))*[ :]?(?:[(\[]?[A-J1-9][)\]]?,? ?(?:(?:and|or|nor) )?)*[(\[]?$",
    re.I,
)
_NEGATED_AFTER = re.compile(
    r"[)\].:]?(?: ?(?:,|and|or|nor|&) ?(?:option )?[(\[]?[A-J1-9][)\]]?)*,? (?:(?:is|are|was|were|seems?|looks?"
    r"|would be|must be|can be|should be|could be) (?:(?:also|clearly|obviously|definitely|both|simply|just|too"
    r"|therefore) )*(?:not\b|wrong|incorrect|false|out\b|ruled|eliminated|impossible|excluded|invalid|a distractor"
    r"|the distractor|a trap|the wrong|an? incorrect|tempting|unlikely|too |the runner|irrelevant|implausible"
    r"|inconsistent)|isn't|aren't|wasn't|can't|cannot|can not|doesn't|do not|don't|does not|fails?\b|would be (?:right"
    r"|correct) if|would have|contradicts)|[)\].:]?(?:ではなく|じゃなく|項は誤|项错|错|不对|不正确|是错)",
    re.I,
)
_ADVERBS = (
    r"(?:(?:for sure|surely|clearly|definitely|certainly|obviously|probably|likely|most likely|actually|indeed"
    r"|therefore|then|thus|simply|only|in fact|still|now|evidently|undoubtedly)[ ,]+)*"
)
_ANNOUNCED = re.compile(r"(?:\b(?:is|are|be|answer|option|choice)|[:=是为])[ (\[]*$")


@dataclass(frozen=True, slots=True)
class _Labels:
    """The patterns of one kind of label."""

    boxed: re.Pattern[str]
    """At the start of a box: `C`, `(C)`, `C.`, `C) and its text`, `C - its text`, `Option C`."""
    stated: tuple[re.Pattern[str], ...]
    """`the answer is C`, `Answer: (C)`, `C is correct`, `I pick C`, `leaving C`."""
    mentioned: re.Pattern[str]
    """`(C)`, `C.`, `C)`, `C:`, or C at the end of a line."""
    another: re.Pattern[str]
    """After the chosen one: `, D.`, ` or (D)`, ` and D`. Who names two has not chosen."""
    listed: re.Pattern[str]
    """An option of a list."""


def _labels(plain: str, bracketed: str) -> _Labels:
    either = rf"(?:[(\[<] ?(?P<bracketed>{bracketed}) ?[)\]>]|(?P<plain>{plain})(?![A-Za-z0-9_'’]|\.[0-9]))"
    after_point = "(?![0-9])" if plain == "[1-9]" else ""
    return _Labels(
        boxed=re.compile(
            rf"(?i:the )?(?i:correct |final )?(?i:option|choice|answer|选项"
            rf"|答案)?(?i: is)?[:是为]? ?[(\[<]? ?(?P<option>{bracketed}) ?"
            rf"(?:[)\]>.:,]{after_point}|$|-(?= )|(?<= )-|(?<= )(?:because|since|as|is)\b)"
        ),
        stated=(
            re.compile(
                r"(?:\b(?i:answer|option|choice)(?i: choice| option| letter)?|答案|选项) ?"
                rf"(?:(?i:is|would be|must be|should be|has to be|:|=)|[是为选应]+)[ :]*{_ADVERBS}(?i:option |choice "
                rf"|letter |选项)?{either}"
            ),
            re.compile(
                rf"(?<![\w(])(?:(?i:option|choice) )?{either} (?i:is|must be|has to be|should be|seems|remains"
                rf"|appears to be)(?i: (?:the|a|indeed|clearly|therefore|only|thus|most|definitely))*"
                r"(?i: (?:correct|right|true|best|answer|valid|winner|accurate|one|appropriate|likely)|(?<=remains)\b)"
            ),
            re.compile(
                r"(?<!who )\b(?i:pick|choose|chose|select|go with|going with|went with|choosing|selecting|leaving"
                r"|leaves|left with|it must be"
                rf"|it is|it's|that is|so it's|must be|conclude|vote for|settle on) (?i:only )?(?i:option |choice "
                rf"|answer )?{either}"
            ),
            re.compile(
                rf"(?i:only) (?i:option |choice )?{either} (?i:is left|remains|works|fits|is possible|satisfies"
                rf"|makes sense)"
            ),
            re.compile(rf"(?:故选|应选|选择|选|正确的是|(?:正解|答え|解答)は|정답은|답은)[ :]?{either}"),
            re.compile(rf"{either}(?:项|选项)?(?:正确|です|입니다|が正しい)"),
            re.compile(rf"{either} it is\b"),
            re.compile(rf"(?:^|[;,.] ?){either} is[.!]?$"),
        ),
        mentioned=re.compile(
            rf"(?:[(\[<](?P<bracketed>{bracketed})[)\]>]|(?<![\w(.-])(?P<plain>{plain})(?= ?[.):](?!\d)| ?$))", re.M
        ),
        another=re.compile(
            rf"[.):\]]? ?(?:,? ?(?:and|or)\b|[,/&;+-])? ?[(\[]?(?:{plain})(?:[).:,;\]]| ?$| (?:and|or)\b)", re.M
        ),
        listed=re.compile(rf"(?:^|(?<=[\s])) ?[(\[]?(?P<label>{plain})[)\].:](?=\s*\S|\s*$)", re.M),
    )


_LETTERS = _labels("[A-J]", "[A-Ja-j]")
_DIGITS = _labels("[1-9]", "[1-9]")


def judge_choice(completion: str, answer: str) -> Verdict:
    r"""Compares the option that `completion` chooses with the gold label `answer`; `BAD_GOLD` where that is none.

    The choice is the option in the last complete box (or `<answer>`); without one, the last one stated ("the answer is
    C", "C is correct", "I pick C"); else the one that the text begins with; else the last one mentioned as a label:
    `(C)`, `C.`, `C)`, or at the end of a line. Options that are ruled out, or only listed, are no choice. Only labels
    of the gold's kind count. Without box or brackets only upper case counts, because `a` is a word. A box without an
    option is no answer, nor is one that was never closed, nor two options side by side ("C or D").
    """
    gold_box = last_boxed(answer)
    gold = _GOLD.fullmatch(_plain(answer if gold_box is None else gold_box))
    if gold is None:
        return Verdict(False, None, Reason.BAD_GOLD)
    option = _chosen(completion, _LETTERS if gold["letter"] else _DIGITS)
    if option is None:
        return Verdict(False, None, Reason.UNPARSEABLE)
    correct = option == (gold["letter"] or gold["digit"]).upper()
    return Verdict(correct, option, Reason.RIGHT if correct else Reason.WRONG)


def _chosen(completion: str, labels: _Labels) -> str | None:
    boxed = last_boxed(completion)
    if boxed is None and is_cut(completion):
        return None
    if boxed is None and (tags := _ANSWER_TAG.findall(completion[-TAIL_CHARS:])):
        boxed = tags[-1]
    if boxed is not None:
        plain = _plain(boxed)
        match = labels.boxed.match(plain)
        return str(match["option"]).upper() if match and not labels.another.match(plain, match.end()) else None
    text = _without_list(_plain(completion[-TAIL_CHARS:]), labels)
    if re.fullmatch(r"[(\[]?[a-j][)\].]+", text):  # "a)" is all there is
        return text.strip("()[]. ").upper()
    stated = [match for pattern in labels.stated for match in pattern.finditer(text) if not _negated(text, match)]
    if stated:
        last = max(stated, key=lambda match: match.start("bracketed") + match.start("plain"))
        return None if labels.another.match(text, _end(last)) else _option(last)
    mentioned = [match for match in labels.mentioned.finditer(text) if not _negated(text, match)]
    if not mentioned:
        return None
    begins = mentioned[0].start() == 0 and not re.match(r"[.):\]]? ?[a-z]", text[mentioned[0].end() :])
    if begins and not labels.another.match(text, mentioned[0].end()):
        return _option(mentioned[0])
    return _option(mentioned[-1])


def _without_list(text: str, labels: _Labels) -> str:
    """`text` without the labels of a list of options: three or more in their order, each followed by its text."""
    run: list[re.Match[str]] = []
    drop: list[re.Match[str]] = []
    for match in labels.listed.finditer(text):
        if _ANNOUNCED.search(text[max(0, match.start() - 12) : match.start("label")]):
            continue
        if run and ord(match["label"]) == ord(run[-1]["label"]) + 1:
            run.append(match)
        else:
            drop += run if len(run) >= 3 else []
            run = [match]
    drop += run if len(run) >= 3 else []
    for match in reversed(drop):
        text = text[: match.start()] + " - " + text[match.end() :]
    return text


def _negated(text: str, match: re.Match[str]) -> bool:
    start = match.start("bracketed") if match["bracketed"] else match.start("plain")
    before = text[max(0, start - 60) : start]
    after = text[_end(match) : _end(match) + 80]
    return _NEGATED_BEFORE.search(before.split("\n")[-1]) is not None or _NEGATED_AFTER.match(after) is not None


def _end(match: re.Match[str]) -> int:
    return match.end("bracketed") + 1 if match["bracketed"] else match.end("plain")


def _option(match: re.Match[str]) -> str:
    return str(match["bracketed"] or match["plain"]).upper()


def _plain(text: str) -> str:
    """`text` without markup, each run of blanks one space and each run of line ends one newline."""
    plain = _DECORATION.sub(" ", text.translate(_FULL_WIDTH))
    plain = re.sub(r"([(\[<]) | (?=[)\]>])", r"\1", re.sub(r"[^\S\n]+", " ", plain))
    return re.sub(r" ?\n[\n ]*", "\n", plain).strip()
