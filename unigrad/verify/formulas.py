"""Two answers in LaTeX, read by math-verify's parser and compared: the part of a check that a worker process runs.

It is loaded by its path (see `worker`) and imports nothing of this package, so that a worker never loads torch.
"""

from __future__ import annotations

from typing import Any

from latex2sympy2_extended.latex2sympy2 import ConversionConfig, NormalizationConfig, latex2sympy, normalize_latex
from math_verify import verify
from sympy import FiniteSet, I, Symbol, Union
from sympy.core.relational import Equality, Relational

TOLERANCE = 1e-6
"""Relative. A decimal may stand for an irrational number where it is this close, and equal in 6 decimals."""

# math-verify's own `parse` is not used: where LaTeX cannot be read, it takes any number within it for the answer.
# Units are taken off before, where a unit can be told from a variable: here, sin 2t would become sin 2.
_NORMALIZATION = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none")
_CONVERSION = ConversionConfig(lowercase_symbols=False)  # r and R are two radii
_IMAGINARY = Symbol("i", real=True)


def judge(extracted: str, gold: str) -> str:
    """The verdict's reason: right, wrong, unparseable (of `extracted`) or bad gold."""
    gold_formula = _read(gold)
    if gold_formula is None:
        return "bad gold"
    formula = _read(extracted)
    if formula is None:
        return "unparseable"
    right = verify(gold_formula, formula, allow_set_relation_comp=True, timeout_seconds=None)
    return "right" if right and not _apart(gold_formula, formula) else "wrong"


def _read(answer: str) -> Any:
    """None where it cannot be read."""
    latex = normalize_latex(answer, _NORMALIZATION)

    def convert(is_real: bool | None) -> Any:
        return latex2sympy(latex, is_real=is_real, normalization_config=None, conversion_config=_CONVERSION)

    try:
        formula = convert(True)
        if _IMAGINARY in formula.free_symbols:
            formula = convert(None).xreplace({Symbol("i"): I})  # z = 4 - 3i: no variable is real any more
        if isinstance(formula, FiniteSet) and all(_is_inequality(item) for item in formula.args):
            return Union(*(item.as_set() for item in formula.args))  # x < 1 or x > 4
    except Exception:  # noqa: BLE001 - a parser of arbitrary strings raises anything
        return None
    return formula


def _is_inequality(formula: object) -> bool:
    return isinstance(formula, Relational) and not isinstance(formula, Equality)


def _apart(gold: Any, formula: Any) -> bool:
    """Whether two numbers that math-verify takes for equal are not: below 1e-6 or 1e-15, all are equal to it."""
    gold, formula = (
        side.rhs if isinstance(side, Equality) and side.lhs.is_Symbol else side for side in (gold, formula)
    )
    if not (getattr(gold, "is_number", False) and getattr(formula, "is_number", False)):
        return False
    gold, formula = gold.doit(), formula.doit()
    if gold.is_zero or formula.is_zero:
        return gold.is_zero is False or formula.is_zero is False
    one, other = gold.evalf(), formula.evalf()
    return bool(abs(one - other) > TOLERANCE * max(abs(one), abs(other)))
