"""Whether two formulas, or two equations, are the same: by their values, which are taken at points where they vary."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from math_verify import verify
from sympy import Expr, Float, Integral, MatrixBase, MatrixExpr, Pow, Rational, Symbol, nan, nsolve, oo, zoo
from sympy.core.function import AppliedUndef

TOLERANCE = 1e-6
"""Relative. A decimal may stand for an irrational number where it is this close, and equal in 6 decimals."""
DIGITS, MOST_DIGITS = 50, 400
"""Formulas are evaluated to so many digits: those that agree in all but the last few are equal."""
# Where every variable is put to evaluate two formulas: both signs, beyond 1 and within, no special values.
_POINTS = (
    (1.37, 0.61, 2.23, 3.11, 0.83, 1.91, 2.71, 0.29), (0.43, 1.73, 0.97, 0.31, 2.39, 1.13, 0.59, 3.37),
    (2.53, 3.19, 1.41, 1.09, 1.57, 0.37, 3.61, 1.27), (-0.77, 1.21, -1.63, 0.53, -2.11, 0.71, -0.47, 1.87),
    (1.59, -0.39, 0.67, -1.31, 0.41, -2.57, 1.03, -0.91), (-2.17, -1.47, -0.73, -2.41, -0.57, -1.19, -3.03, -0.33),
)  # fmt: skip
_Points = tuple[tuple[float, ...], ...]
_ENOUGH = 2
_COUNTING = frozenset("nkmjlNKM")
"""Letters that stand for whole numbers where (-1)^n or cos nπ is about."""
_DECIMAL = re.compile(r"[0-9]\.[0-9]|(?<![0-9])\.[0-9]")


def has_decimals(*texts: str) -> bool:
    return any(_DECIMAL.search(text) for text in texts)


def equal(gold: Any, given: Any, decimals: bool) -> bool:
    gold, given = (side.doit() if isinstance(side, MatrixExpr) else side for side in (gold, given))
    if gold == given:
        return True
    if isinstance(gold, MatrixBase) or isinstance(given, MatrixBase):
        if not (isinstance(gold, MatrixBase) and isinstance(given, MatrixBase)) or gold.shape != given.shape:
            return False
        return all(equal(one, other, decimals) for one, other in zip(gold, given, strict=True))
    if not (isinstance(gold, Expr) and isinstance(given, Expr)):
        return verified(gold, given)
    if any(side.has(oo, -oo, zoo, nan) for side in (gold, given)):
        return bool(gold.doit() == given.doit())
    if not gold.free_symbols and not given.free_symbols:
        return _equal_numbers(gold, given, decimals)
    same_everywhere = _agree(gold, given)
    if same_everywhere is None:
        return verified(gold, given)
    return same_everywhere


def _equal_numbers(gold: Any, given: Any, decimals: bool) -> bool:
    if isinstance(gold, Rational) and isinstance(given, Rational):
        return bool(gold == given)
    if gold.has(Integral) or given.has(Integral):
        return verified(gold, given)
    one, other = _evaluated(gold), _evaluated(given)
    if one is None or other is None:
        return verified(gold, given)
    scale = max(abs(one), abs(other))
    difference = abs(one - other)
    if difference > scale * Float("1e-40", DIGITS):
        rational = gold.is_rational is not False and given.is_rational is not False and not _irrational(gold, given)
        if not decimals or rational or difference > TOLERANCE * scale:
            return False
        return bool(difference < Float("5e-7") or round(one, 6) == round(other, 6)) if one.is_real else True
    if scale == 0:
        return True
    # Evaluated to as many digits as the difference needs to show: 1 and 1 - 10^{-50} are two numbers.
    residue = abs((gold - given).evalf(5, maxn=MOST_DIGITS))
    if residue > scale * Float("1e-200", DIGITS):
        return False
    if scale > 10**30 and gold.is_integer and given.is_integer:
        return bool((gold - given).evalf(5, maxn=DIGITS + 50) == 0 or gold.doit() == given.doit())
    return True


def _irrational(*formulas: Any) -> bool:
    return any(not isinstance(formula.doit(), Rational) for formula in formulas)


def _evaluated(formula: Any) -> Any:
    """A number's value, or None."""
    try:
        value = formula.doit().evalf(DIGITS) if formula.has(Integral) else formula.evalf(DIGITS)
        if not value.is_number or value.has(nan, zoo, oo):
            return None
        real, imaginary = value.as_real_imag()
        if not (real.is_Float or real.is_Rational) or not (imaginary.is_Float or imaginary.is_Rational):
            return None
    except Exception:  # noqa: BLE001 - evaluation of arbitrary formulas raises anything
        return None
    return value


def _agree(gold: Any, given: Any) -> bool | None:
    """Whether two formulas have equal values wherever both are real; None where that cannot be seen."""
    if any(side.atoms(AppliedUndef) or side.has(Integral) for side in (gold, given)):
        return None
    symbols = sorted(gold.free_symbols | given.free_symbols, key=str)
    if len(symbols) > len(_POINTS[0]):
        return None
    agreed = _agreed_at(gold, given, symbols, _POINTS)
    if agreed is False and {str(symbol) for symbol in symbols} <= _COUNTING:
        whole = tuple(tuple(start + 2 * place for place in range(len(symbols))) for start in range(1, 7))
        counting = any(part.base.is_negative for part in (*gold.atoms(Pow), *given.atoms(Pow)) if part.base.is_number)
        if counting or "sin" in str(gold) + str(given) or "cos" in str(gold) + str(given):
            return _agreed_at(gold, given, symbols, whole)
    return agreed


def _places(symbols: list[Any], points: _Points) -> Iterator[dict[Any, Any]]:
    """What to put for each variable, at each of the points."""
    for point in points:
        yield {symbol: Rational(str(value)) for symbol, value in zip(symbols, point, strict=False)}


def _agreed_at(gold: Any, given: Any, symbols: list[Any], points: _Points) -> bool | None:
    seen = 0
    for place in _places(symbols, points):
        one, other = _evaluated(gold.subs(place)), _evaluated(given.subs(place))
        if one is None or other is None:
            continue
        if any(symbol.is_real for symbol in symbols) and not (one.is_real and other.is_real):
            continue
        if abs(one - other) > max(abs(one), abs(other)) * Float("1e-30", DIGITS):
            return False
        seen += 1
    return True if seen >= _ENOUGH else None


def as_variables(*formulas: Any) -> list[Any]:
    """With f(x) as a variable of its own."""
    functions = sorted(set().union(*(formula.atoms(AppliedUndef) for formula in formulas)), key=str)
    names = {function: Symbol(f"value{index}", real=True) for index, function in enumerate(functions)}
    return [formula.xreplace(names) for formula in formulas]


def proportional(one: Any, other: Any) -> bool:
    """Whether one is a multiple of the other: equations that differ by a factor are the same."""
    symbols = sorted(one.free_symbols | other.free_symbols, key=str)
    if not symbols or len(symbols) > len(_POINTS[0]) or one.free_symbols != other.free_symbols:
        return False
    ratios = []
    for place in _places(symbols, _POINTS):
        top, bottom = _evaluated(one.subs(place)), _evaluated(other.subs(place))
        if top is None or bottom is None or top == 0 or bottom == 0:
            continue
        ratios.append(top / bottom)
    first = ratios[0] if ratios else 0
    return len(ratios) >= 3 and all(abs(ratio - first) < abs(first) * Float("1e-30", DIGITS) for ratio in ratios)


def same_zeros(one: Any, other: Any) -> bool | None:
    """Whether two equations have the same solutions, as far as a search finds some; None where it finds none."""
    if one.free_symbols != other.free_symbols:
        return False
    symbols = sorted(one.free_symbols, key=str)
    if not symbols or len(symbols) > len(_POINTS[0]):
        return None
    seen = 0
    for formula, against in ((one, other), (other, one)):
        for place in _places(symbols, _POINTS):
            for unknown in symbols:
                rest = {symbol: value for symbol, value in place.items() if symbol != unknown}
                for zero in _zeros(formula.subs(rest), unknown):
                    value = _evaluated(against.subs(rest).subs(unknown, zero))
                    if value is None:
                        continue
                    if abs(value) > 1e-6:
                        return False
                    seen += 1
    return True if seen >= _ENOUGH else None


def _zeros(formula: Any, unknown: Any) -> list[Any]:
    """Zeros of a function of one variable that Newton's method finds from points of both signs."""
    zeros = []
    for start in (0.7, -0.7, 2.3, -2.3, 7.1):
        try:
            zero = nsolve(formula, unknown, start, prec=DIGITS, maxsteps=30)
        except Exception:  # noqa: BLE001 - evaluation of arbitrary formulas raises anything
            continue
        if zero.is_real:
            zeros.append(zero)
    return zeros


def verified(gold: Any, given: Any) -> bool:
    """math-verify's own comparison, where evaluation does not help."""
    return bool(verify(gold, given, allow_set_relation_comp=True, timeout_seconds=None)) and not _apart(gold, given)


def _apart(gold: Any, formula: Any) -> bool:
    """Whether two numbers that math-verify takes for equal are not: below 1e-6 or 1e-15, all are equal to it."""
    if not (getattr(gold, "is_number", False) and getattr(formula, "is_number", False)):
        return False
    gold, formula = gold.doit(), formula.doit()
    if gold.is_zero or formula.is_zero:
        return gold.is_zero is False or formula.is_zero is False
    one, other = gold.evalf(), formula.evalf()
    return bool(abs(one - other) > TOLERANCE * max(abs(one), abs(other)))
