"""A value: a number or a formula with its sign, unit, percent sign and modulus, among the words around it."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction

from unigrad.verify.nodes import Node, Several, Unread, Value
from unigrad.verify.numbers import fraction_latex, mixed_number, plain_number
from unigrad.verify.splitting import PROSE, without_outer
from unigrad.verify.words import SYMBOLS_AT_END, after_number, before_number, is_symbol, unit_at_end

_PLUS_MINUS, _MINUS_PLUS = re.compile(r"\\pm(?![a-zA-Z])"), re.compile(r"\\mp(?![a-zA-Z])")
MODULUS = re.compile(
    r" ?(?:\\pmod ?(?:\{ ?(\d+) ?\}|(\d+))|\(? ?(?:⟨mod(?:ulo)?⟩|\\b?mod(?![a-z])"
    r"|mod(?=[ 0-9])) ?\{? ?(\d+) ?\}? ?\)?)$"
)
_OPTION = re.compile(r"^\(?⟨?\(?[A-E](?:\)⟩?|⟩?\))[.:]? ?(?=[^ ,;)\]])")
_NOUN = re.compile(r"(?<=[0-9}])(?P<space> ?)⟨(?P<words>[^⟨⟩]*)⟩")
_TRIGONOMETRIC = re.compile(r"\\(?:arc)?(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])")
_DEGREES = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?|\\?[a-zA-Z]+|\([^()]*\)) ?\^\\circ")
_OHM = re.compile(r" ?[kM]? ?\\Omega$")
_TEMPERATURE = re.compile(r"\^\\circ ?(?:⟨?[CF]⟩?|⟨(?:Celsius|Fahrenheit|celsius|fahrenheit)⟩)$")


def read_value(text: str) -> Node:
    modulus = MODULUS.search(text)
    if modulus and modulus.start():
        value = read_value(text[: modulus.start()].strip())
        if not isinstance(value, Value):
            return Unread(text)
        return modulo(value, modulus)
    text = _degrees(_OPTION.sub("", text))
    sign, factor, percent, unit = 1, Fraction(1), False, None
    prose = PROSE.search(text)
    if prose and prose.start() == 0 and prose.end() < len(text):
        before = before_number(prose[1])
        if before is None:
            return Unread(text)
        sign, unit = before
        if prose[1].isupper() and unit is None and text[prose.end()].isdigit() and not is_symbol(prose[1]):
            return Unread(text)  # a name: AZ2
        text = text[prose.end() :].strip(" :")
    text = text.strip()
    if text.endswith("%"):
        percent, text = True, text[:-1].strip()
    if (ohms := _OHM.search(text)) and plain_number(text[: ohms.start()].strip()) is not None:
        text = text[: ohms.start()].strip()
    symbol, product = SYMBOLS_AT_END.search(text), None
    if symbol and not text.endswith("⟩") and plain_number(text[: symbol.start()].strip()) is not None:
        product, unit, text = text, unit or unit_at_end(symbol["unit"]), text[: symbol.start()].strip()
    while prose := PROSE.search(text):
        if prose.end() == len(text):
            said = after_number(prose[1].strip())
            if said is None:
                return Unread(text)
            factor, percent, unit = factor * said.factor, percent or said.percent, said.unit or unit
            text = text[: prose.start()].strip()
            if text.endswith("%"):
                percent, text = True, text[:-1].strip()
            continue
        said = (
            after_number(prose[1].strip())
            if _NOUN.match(text, prose.start() - (text[prose.start() - 1] == " "))
            else None
        )
        rest = text[prose.end() :].strip()
        if said is None or said.factor != 1 or said.percent or not re.match(r"[+*/)}-]|\\(?:times|cdot|pm)", rest):
            return Unread(text)
        text = f"{text[: prose.start()].strip()} {rest}"
    if not text:
        return Unread(text)
    inner = without_outer(text)
    if inner != text and plain_number(inner) is not None:
        text = inner
    number = plain_number(text)
    if sign < 0 or factor != 1:
        if number is None and factor != 1:
            return Unread(text)
        number = None if number is None else sign * factor * number
        text = fraction_latex(number) if number is not None else f"-({text})"
    if number is None and _PLUS_MINUS.search(text):
        return Several(tuple(Value(both, plain_number(both), percent, unit) for both in both_signs(text)))
    return Value(mixed_number(text), number, percent, unit, product)


def modulo(value: Value, modulus: re.Match[str]) -> Value:
    return replace(value, modulus=int(next(group for group in modulus.groups() if group)))


def _degrees(text: str) -> str:
    """An angle within a function is turned into radians; elsewhere the sign is a unit."""
    if r"^\circ" not in text:
        return text
    function = _TRIGONOMETRIC.search(text)
    if function and function.start() < text.index(r"^\circ"):
        text = _DEGREES.sub(r"{(\g<number> \\cdot \\frac{\\pi}{180})}", text)
    return _TEMPERATURE.sub("", text).replace(r"^\circ", "").strip()


def both_signs(item: str) -> list[str]:
    r"""An item with \pm as two."""
    if _PLUS_MINUS.search(item) is None:
        return [item]
    plus, minus = _PLUS_MINUS.sub("+", item), _PLUS_MINUS.sub("-", item)
    return [_MINUS_PLUS.sub("-", plus).removeprefix("+").strip(), _MINUS_PLUS.sub("+", minus).strip()]
