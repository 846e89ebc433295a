r"""The many ways of writing one answer, brought to one: Unicode, fonts, spacing, plain-text mathematics, words.

What is said in words stands between ⟨ and ⟩ afterwards, whether it came in `\text{...}` or without; all else is LaTeX.
Nothing here can raise or take long: callers cut every text to a bounded length, and no pattern's time explodes with it.
"""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Callable

from unigrad.verify.words import CJK, is_symbol, is_weak, is_word, listed, may_be_attached

FULL_WIDTH = {chr(0xFEE0 + code): chr(code) for code in range(0x21, 0x7F)}
"""The full-width forms of ASCII."""
_SYMBOLS = str.maketrans(
    FULL_WIDTH
    | dict.fromkeys("\xa0\u2009\u202f\u3000", " ")
    | dict.fromkeys("\u200b\u200c\u200d\ufeff\ufe0f✓✔✅", "")
    | {
        "−": "-", "–": "-", "—": "-", "⁄": "/", "÷": "/", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "±": r"\pm ",
        "∓": r"\mp ", "∞": r"\infty ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ",
        "∖": r"\setminus ", "ℝ": r"\mathbb{R}", "≡": r"\equiv ", "∠": r"\angle ", "△": r"\triangle ", "∣": r"\mid ",
        "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ", "≦": r"\le ", "≧": r"\ge ", "≠": r"\ne ",
        "≈": r"\approx ", "≃": r"\approx ", "≅": r"\approx ", "′": "'", "’": "'", "°": r"^\circ ", "…": r"\ldots ",
        "∧": " and ", "∨": " or ", "、": ",", "。": ".", "『": "", "』": "", "「": "", "」": "",
        "½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}",
        "⅕": r"\frac{1}{5}", "⅖": r"\frac{2}{5}", "⅗": r"\frac{3}{5}", "⅘": r"\frac{4}{5}", "⅙": r"\frac{1}{6}",
        "⅚": r"\frac{5}{6}", "⅛": r"\frac{1}{8}", "⅜": r"\frac{3}{8}", "⅝": r"\frac{5}{8}", "⅞": r"\frac{7}{8}",
        "€": "⟨euro⟩", "£": "⟨pound⟩", "¥": "⟨yuan⟩", "₹": "⟨rupee⟩", "¢": "⟨cent⟩",
        "⟨": r"\langle ", "⟩": r"\rangle ", "℃": r"^\circ C", "Ω": r"\Omega ",
    }
    | {
        letter: rf"\{name} "
        for letter, name in zip(
            "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨ",
            listed(
                "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon "
                "phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi"
            ),
            strict=True,
        )
    }
)  # fmt: skip
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿˣᵀ", "0123456789+-nxT")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿˣᵀ]+")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SUBSCRIPT = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_RADICAL = re.compile(r"(?P<index>[∛∜√]) ?(?:(?P<argument>[0-9]+|[a-zA-Z])|(?=[({]))?")
_RADICAL_INDEX = {"√": "", "∛": "[3]", "∜": "[4]"}

_TEXT_FONTS = r"text|textbf|textit|textrm|textsf|texttt|textnormal|textup|textsc|emph|mbox|hbox"
_MATH_FONTS = r"mathrm|mathbf|mathsf|mathit|mathtt|boldsymbol|bm|operatorname\*?|rm|bf|it|sf|tt"
_FUNCTIONS = listed(
    "arcsin arccos arctan sinh cosh tanh sin cos tan cot sec csc log ln exp lim max min gcd lcm det deg arg dim ker"
)
_GREEK = listed(
    "alpha beta gamma delta epsilon theta lambda mu sigma omega phi varphi rho tau psi pi Delta Omega Gamma Sigma"
)

_Replacement = str | Callable[[re.Match[str]], str]


def _repeating_dots(match: re.Match[str]) -> str:
    r"""0.\dot{1}4\dot{2} as 0.\overline{142}."""
    return rf"{match[1]}\overline{{{''.join(character for character in match[2] if character.isdigit())}}}"


def _rules(*pairs: tuple[str, _Replacement]) -> list[tuple[re.Pattern[str], _Replacement]]:
    return [(re.compile(pattern), replacement) for pattern, replacement in pairs]


_SPELLING = _rules(
    # A backslash too many, as from a JSON string escaped twice. A matrix's \\ never stands before a command's name.
    (r"\\\\(?=(?:[dtc]?frac|d?binom|sqrt|text|mathrm|boxed|pi|left|right|cdot|times|circ|infty|le|ge|leq"
     r"|geq)\b)", r"\\"),
    (r"(?<!\\)\\!\s*", ""),
    (r"(?<=[0-9])(?: ?\{ ?, ?\}|\\,|\\ |\\;|\\:|,\\[,;: ])\s*(?=[0-9]{3}(?![0-9]))", ","),  # 10{,}080 and 10\,080
    (r"(?<=[0-9])\{[,.]\}(?=[0-9])", "."),  # a decimal comma
    (r"\{:\}", ":"),
    (r"\\\\\[[0-9.]+[a-z]{2}\]", r"\\\\"),  # the space between two rows of a matrix
    (r"(?<!\\)\\[()\[\]]", ""),
    (r"\\text(?:bf|rm)?\{ ?\\?\$ ?\}|US\\?\$|(?<!\\)\\\$", " ⟨dollar⟩ "),
    (r"(?<!\\)\$", ""),
    (r"\\pounds(?![a-zA-Z])|\\text(?:sterling)(?![a-zA-Z])", "⟨pound⟩"),
    (r"\\euro(?![a-zA-Z])|\\texteuro(?![a-zA-Z])", "⟨euro⟩"),
    (r"(?: |(?<!\\)\\[,;: ]|~|\\q?quad|\\[hv]space\*?\{[^{}]*\})+", " "),
    (
        r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|scriptstyle|tiny|small|normalsize|[lL]arge|LARGE|huge"
        r"|Huge|limits|nolimits|checkmark|blacksquare|square|qed|ensuremath)(?![a-zA-Z])",
        "",
    ),
    (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
    (r"\\[dt]binom(?![a-zA-Z])", r"\\binom"),
    (r"\\binom ?([0-9]) ?([0-9])", r"\\binom{\1}{\2}"),
    (r"\{([^{}]*)\\choose([^{}]*)\}", r"\\binom{\1}{\2}"),
    (r"\\(?:SI|qty)\*? ?\{([^{}]*)\} ?\{([^{}]*)\}", lambda match: rf"{match[1]} \text{{{_siunitx(match[2])}}}"),
    (r"\\(?:num|ang) ?\{([^{}]*)\}", r"\1"),
    (r"\\(?:si|unit) ?\{([^{}]*)\}", lambda match: rf" \text{{{_siunitx(match[1])}}}"),
    (r"\\(?:color|textcolor) ?\{[^{}]*\} ?\{([^{}]*)\}", r"\1"),
    (r"\\color ?\{[^{}]*\}", ""),
    (r"\\underline ?\{ ?\\underline ?\{([^{}]*)\} ?\}", r"\1"),
    (r"(?<=[①-⑳])[,、 ]+(?=[①-⑳])", ""),
    (r"\\(?:mathrm|text|rm) ?\{? ?C ?\}? ?_ ?\{? ?([0-9]+) ?\}? ?\^ ?\{? ?([0-9]+) ?\}?", r"\\binom{\1}{\2}"),
    (r"\\(?:underline|textcircled|mathord|mathop|mathstrut) ?\{([^{}]*)\}", r"\1"),
    (r"(\*\*|__|`)(?! )(.{1,200}?)(?<! )\1", r"\2"),  # markdown
    (r"(?<!\\)\\%", "%"),
    (r"\\(?:geqslant|geqq|geq|gee?)(?![a-zA-Z])|>=|=>", r"\\ge "),
    (r"\\(?:leqslant|leqq|leq)(?![a-zA-Z])|<=", r"\\le "),
    (r"\\gt(?![a-zA-Z])", ">"),
    (r"\\lt(?![a-zA-Z])", "<"),
    (r"\\neq(?![a-zA-Z])|\\not ?=|!=", r"\\ne "),
    (r"\\(?:simeq|thickapprox|approxeq|cong)(?![a-zA-Z])|~=", r"\\approx "),
    (r"\\(?:lbrace|rbrace)(?![a-zA-Z])", lambda match: r"\{" if "l" in match[0] else r"\}"),
    (r"\\(?:lor|vee)(?![a-zA-Z])", " or "),
    (r"\\(?:land|wedge)(?![a-zA-Z])", " and "),
    (r"\\(?:varnothing|O(?![a-zA-Z]))", r"\\emptyset "),
    (r"\\backslash(?![a-zA-Z])", r"\\setminus "),
    (r"\\(?:dots[bcimo]?|cdots|ldots|hdots)(?![a-zA-Z])|\.\.\.", r"\\ldots "),
    (r"\^ ?(?:\\(?:circ|degree)(?![a-zA-Z])|\{ ?\\(?:circ|degree) ?\})|\\(?:degree"
     r"|textdegree)(?![a-zA-Z])", r"^\\circ "),
    (r"([0-9]*\.[0-9]*)((?:\\dot ?\{?[0-9]\}?)[0-9]*(?:\\dot ?\{?[0-9]\}?)?)", _repeating_dots),
    (r"(?<=[0-9])'(?=[0-9]{3}(?![0-9]))", ","),
    (r"\*\*", "^"),
    (r"(?<![\\a-zA-Z])(?:infinity|infty|inf)(?![a-zA-Z])", r"\\infty "),
    (r"(?<![\\a-zA-Z])sqrt(?![a-zA-Z])", r"\\sqrt"),
    (rf"(?<![\\a-zA-Z{{])({'|'.join(_GREEK)})(?![a-zA-Z])", r"\\\1 "),
    (rf"(?<![\\a-zA-Z{{])({'|'.join(_FUNCTIONS)})(?=[ (\\0-9^_])(?! ?[a-zA-Z]{{2}})", r"\\\1"),
    (rf"(?<![0-9 ~])\\(?:operatorname\*?|mathrm|text) ?\{{ ?({'|'.join(_FUNCTIONS)}) ?\}}", r"\\\1 "),
    (r"\\sqrt ?(\[[^\[\]]*\])? ?\(([^()]*(?:\([^()]*\)[^()]*)*)\)",
     lambda match: rf"\sqrt{match[1] or ''}{{{match[2]}}}"),
    # An upright or bold number, and the upright i and e, which are no units.
    (rf"\\(?:{_TEXT_FONTS}|{_MATH_FONTS}) ?\{{ ?([+-]?[0-9][0-9.,]*%?|%|) ?\}}", r"\1"),
    (rf"\\(?:{_TEXT_FONTS}|{_MATH_FONTS}) ?\{{ ?([ie]) ?\}}", r"\1"),
    (rf"\{{ ?\\(?:{_MATH_FONTS})(?![a-zA-Z]) ?([+-]?[0-9.,]+)\}}", r"\1"),
    (rf"\{{ ?\\(?:{_MATH_FONTS})(?![a-zA-Z]) ?([^{{}}]*)\}}", lambda match: rf"\text{{{match[1]}}}"),
    (r"\\(?:rm|bf|it|sf|tt)(?![a-zA-Z]) ?", ""),
    (rf"(?<![0-9 ])\\(?:{_MATH_FONTS}) ?\{{ ?([A-Za-z]) ?\}}", r" \1"),
)  # fmt: skip
_IN_FONT = re.compile(rf"\\(?:{_TEXT_FONTS}|{_MATH_FONTS}) ?\{{((?:[^{{}}]|\{{[^{{}}]*\}})*)\}}")
# In words: what may follow a letter's run are an apostrophe, a hyphen, abbreviation points, and a unit's power.
_RUN = rf"(?:[A-Za-zµÅÀ-ÿ\u0400-\u04ff]+(?:['.-][A-Za-zÀ-ÿ]+)*\.?|[{CJK}]+)"
_WORDS_IN_FONT = re.compile(rf"{_RUN}(?:[ /]*{_RUN})*")
_UNIT_POWER = re.compile(r"(?<=[A-Za-z])\^?(?:\{ ?-?[0-9] ?\}|-?[0-9])(?![0-9.:])")
# Elsewhere: commands and environments are passed over, a run of letters may be words.
_OUTSIDE = re.compile(
    rf"⟨[^⟨⟩]*⟩|\\(?:begin|end) ?\{{[a-z*]+\}}|\\(?:mathbb|mathcal|mathfrak|overline|vec|hat|bar"
    rf"|widehat) ?\{{[^{{}}]*\}}|\\[A-Za-z]+|_ ?\{{[^{{}}]*\}}|(?P<words>{_RUN}(?:[ /]+(?:{_RUN}))*)"
)
_JOINED = _rules(
    (r"⟩ ?(?:\\cdot|/|\*|-|\\times)? ?⟨", lambda match: "/" if "/" in match[0] else " "),
    (r"⟨ *([^⟨⟩]*?) *⟩(?: ?\^ ?(?:-?[0-9]|\{ ?-?[0-9] ?\}))?", r"⟨\1⟩"),
    (r"\\frac ?\{ ?⟨([^⟨⟩]*)⟩ ?\} ?\{ ?⟨([^⟨⟩]*)⟩ ?\}", r"⟨\1/\2⟩"),
    (r"\( ?⟨([^⟨⟩]*)⟩ ?\)|\[ ?⟨([^⟨⟩]*)⟩ ?\]", lambda match: f"⟨{match[1] or match[2]}⟩"),
    (r"⟩ ?(?:\\cdot|/|\*)? ?⟨", " "),
    (r"(?<=.)\(? ?⟨(?:approximately|approx\.?|about|roughly)⟩ ?([^()]*)\)?$", r"\\approx \1"),
)
_PLAIN_NUMBER = re.compile(r"-?[0-9]+(?:[.,][0-9]+)*")


@functools.lru_cache(maxsize=1024)  # a gold answer is met once for each of its rollouts
def spell(answer: str) -> str:
    r"""`answer` in one spelling; of nothing but its words' case, punctuation within words and outer blanks is lost."""
    if _PLAIN_NUMBER.fullmatch(answer):
        return answer
    if not answer.isascii():
        answer = _SUPERSCRIPT.sub(lambda run: "^{" + run[0].translate(_SUPERSCRIPTS) + "}", answer)
        answer = _SUBSCRIPT.sub(lambda run: "_{" + run[0].translate(_SUBSCRIPTS) + "}", answer)
        answer = _RADICAL.sub(_radical, answer.translate(_SYMBOLS))
    text = " ".join(answer.replace("\x0crac", r"\frac").split())
    for pattern, replacement in _SPELLING:
        text = pattern.sub(replacement, text)
    text = _IN_FONT.sub(lambda font: f" {_words_in_font(font[1])} ", text)
    text = _OUTSIDE.sub(_word_outside, " ".join(text.split()))
    for pattern, replacement in _JOINED:
        text = pattern.sub(replacement, text)
    return " ".join(text.split()).rstrip(" .,;") if text.strip(" .,;") else ""


def unwrap_gold(answer: str) -> str:
    """A gold answer without the list of one text that some data sets keep it in: `["256"]`."""
    stripped = answer.strip()
    if stripped[:2] in ('["', "['") and stripped[-2:] in ('"]', "']"):
        try:
            items = json.loads(stripped) if stripped[1] == '"' else ast.literal_eval(stripped)
        except (ValueError, SyntaxError):
            return answer
        return ", ".join(str(item) for item in items)
    return answer


def _radical(match: re.Match[str]) -> str:
    argument = f"{{{match['argument']}}}" if match["argument"] else ""
    return rf"\sqrt{_RADICAL_INDEX[match['index']]}{argument}"


def _siunitx(unit: str) -> str:
    r"""\kilo\meter\per\second as words."""
    return re.sub(r"\\per(?![a-z])", "/", unit).replace("\\", " ").replace(".", " ")


def _words_in_font(content: str) -> str:
    """The runs of letters of a text as words; its numbers and signs as they are."""
    if "⟨" in content:  # a currency's sign
        return content
    content = re.sub(r"\\(?:cdot|times|,|;|:| )|\{\}", " ", content).strip()
    if re.fullmatch(r"[0-9A-Z]*[0-9][A-Z][0-9A-Z]*|[A-Z]+[0-9]+[A-Z0-9]*", content):  # digits of a base: A3F
        return content
    if not re.search(r"[A-Za-z] ?[=<>]", content):
        content = _UNIT_POWER.sub(
            lambda power: power[0] if power.string[: power.start()].endswith("base") else "", content
        )
    return _WORDS_IN_FONT.sub(lambda words: f"⟨{words[0]}⟩", content)


def _word_outside(match: re.Match[str]) -> str:
    words = match["words"]
    if words is None:
        return match[0]
    before, after = match.string[: match.start()], match.string[match.end() :]
    tokens = words.split(" ")
    number = re.search(r"(?:[0-9] ?|[})] )$", before) is not None or re.match(r" ?[0-9]", after) is not None
    marked = [
        (is_word(token) and (number or not is_symbol(token) or len(tokens) > 1))
        or (is_weak(token) and before.endswith(tuple("0123456789 ")))
        for token in tokens
    ]
    if before[-1:].isdigit() or before[-1:] in ("}", ")"):  # attached: 24cm is a quantity, 2ab a product
        marked[0] = may_be_attached(tokens[0]) or (marked[0] and tokens[0].islower() and len(tokens[0]) > 3)
    if (after[:1] in ("^", "_") and not is_symbol(tokens[-1]) and not number) or (
        after[:1] == "(" and tokens[-1].lower() not in ("and", "or")
    ):
        marked[-1] = False
    if not any(marked):
        return words
    first, last = marked.index(True), len(marked) - marked[::-1].index(True)
    while (
        first
        and (is_weak(tokens[first - 1]) or tokens[first - 1].lower() in ("a", "the"))
        and before[-1:] in ("", " ", "(")
    ):
        first -= 1
    weak = all(is_weak(token) and not is_symbol(token) for token in tokens[first:last])
    if weak and not before.rstrip().endswith(tuple("0123456789")):
        return words
    return " ".join([*tokens[:first], f"⟨{' '.join(tokens[first:last])}⟩", *tokens[last:]])
