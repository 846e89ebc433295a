"""Formulas out of LaTeX, by math-verify's parser."""

from __future__ import annotations

import functools
import re
from typing import Any

from latex2sympy2_extended.latex2sympy2 import ConversionConfig, NormalizationConfig, latex2sympy, normalize_latex
from sympy import Expr, Float, I, Mul, Pow, Rational, Symbol

from unigrad.verify.comparing import UnreadableError
from unigrad.verify.numbers import fraction_latex, repeating_decimal

# math-verify's own `parse` is not used: where LaTeX cannot be read, it takes any number within it for the answer.
# Units are taken off before, where a unit can be told from a variable: here, sin 2t would become sin 2.
_NORMALIZATION = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none")
_CONVERSION = ConversionConfig(lowercase_symbols=False)  # r and R are two radii
_IMAGINARY = Symbol("i", real=True)
_E_NOTATION = re.compile(r"(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)) ?[eE] ?(?P<exponent>[+-]?[0-9]{1,3})")
_REPEATING = re.compile(r"(?<![0-9.])([0-9]{1,9})\.([0-9]{0,9})\\overline ?\{ ?([0-9]{1,9}) ?\}(?![0-9])")


def formula_of(latex: str, is_gold: bool) -> Any:
    formula = read_formula(latex)
    if formula is None:
        raise UnreadableError(is_gold)
    return formula


@functools.lru_cache(maxsize=512)  # the items of two lists are each compared with several
def read_formula(answer: str) -> Any:
    """None where it cannot be read, or the parser would leave a letter out."""
    latex = normalize_latex(_as_latex(answer), _NORMALIZATION)

    def convert(is_real: bool | None) -> Any:
        return latex2sympy(latex, is_real=is_real, normalization_config=None, conversion_config=_CONVERSION)

    try:
        formula = convert(True)
        if not _complete(latex, "".join(map(str, getattr(formula, "free_symbols", ())))):
            return None
        if _IMAGINARY in formula.free_symbols:
            formula = convert(None).xreplace({Symbol("i"): I})  # z = 4 - 3i: no variable is real any more
        elif isinstance(formula, Expr):
            formula = _real_roots(_exact(formula))
    except Exception:  # noqa: BLE001 - a parser of arbitrary strings raises anything
        return None
    return formula


def _as_latex(answer: str) -> str:
    """What the parser reads rightly: without help it takes 4e33 for 4·e + 33, and y' for y."""
    number = _E_NOTATION.fullmatch(answer)
    if number is not None:
        return rf"{number['number']} \times 10^{{{number['exponent']}}}"
    answer = re.sub(r"\(([^()]*)\)(?=\^\{?\\(?:top|mathrm|T))", r"{(\1)}", answer)
    answer = _REPEATING.sub(_repeating, answer)
    # A derivative is a variable of its own: the parser drops quote marks, and takes \prime for an exponent.
    answer = re.sub(r"\^ ?(?:\{ ?((?:\\prime ?)+)\}|(\\prime))", lambda match: "'" * match[0].count("prime"), answer)
    answer = re.sub(r"(?<![\\a-zA-Z])([A-Za-z])('+)", lambda match: f"{match[1]}_{{{'prime' * len(match[2])}}}", answer)
    answer = re.sub(r"'+", lambda match: "^{" + r"\prime " * len(match[0]) + "}", answer)
    answer = re.sub(r"\\log ?_ ?(?:e|\{ ?e ?\})(?![a-zA-Z])", r"\\ln", answer)
    answer = re.sub(r"(?<![A-Za-z\\])([eE])(?= ?_)", r"\\mathcal{\1}", answer)  # E_{1} is none of its symbols
    return re.sub(r"(?<=[0-9]) ?(?:x|\*) ?10 ?(?=\^)", r"\\times 10", answer)


def _repeating(match: re.Match[str]) -> str:
    r"""0.1\overline{6} as the fraction (16 - 1)/90, which math-verify does not read out of it."""
    return fraction_latex(repeating_decimal(*match.groups()))


def _complete(latex: str, named: str) -> bool:
    """Whether each capital letter of an exponent is among the names of the variables: the parser reads A^T as A."""
    exponents = re.findall(r"\^ ?\{? ?(?:\\(?:mathrm|top|text|mathsf) ?\{?)?([A-Z])?", latex)
    if any(letter and letter not in named for letter in exponents):
        return False
    return re.search(r"\^ ?\{? ?\\(?:top|dagger|ast|star|perp)", latex) is None


def _exact(formula: Any) -> Any:
    """With the decimals that it was written with as fractions."""
    return formula.xreplace({number: Rational(str(number)) for number in formula.atoms(Float)})


def _real_roots(formula: Any) -> Any:
    """With odd roots of negative numbers real, as answers mean them; sympy's are complex."""

    def is_root(power: Any) -> bool:
        exponent = power.exp
        if isinstance(exponent, Mul | Pow) and not exponent.free_symbols:
            exponent = exponent.doit()
        return bool(
            isinstance(exponent, Rational)
            and exponent.q % 2 == 1
            and exponent.q > 1
            and (
                power.base.is_negative
                or (power.base.is_number and power.base.evalf(15) < 0)
                or power.base.could_extract_minus_sign()
            )
        )

    def real(power: Any) -> Any:
        exponent = power.exp.doit()
        return (-1) ** (exponent.p % 2) * Pow(-power.base, exponent)

    return formula.replace(lambda part: isinstance(part, Pow) and is_root(part), real)
