"""Formulas in LaTeX, read by math-verify's parser and compared: the part of a check that a worker process runs."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

from latex2sympy2_extended.latex2sympy2 import ConversionConfig, NormalizationConfig, latex2sympy, normalize_latex
from math_verify import verify
from sympy import (
    Complement,
    EmptySet,
    Expr,
    FiniteSet,
    Float,
    I,
    Integral,
    Intersection,
    Interval,
    MatrixBase,
    MatrixExpr,
    Mul,
    Pow,
    Rational,
    S,
    Set,
    Symbol,
    Union,
    nan,
    nsolve,
    oo,
    zoo,
)
from sympy.core.function import AppliedUndef
from sympy.core.relational import Equality, Unequality

from unigrad.verify import comparing
from unigrad.verify.comparing import UnreadableError
from unigrad.verify.nodes import Braced, Bracketed, Empty, Node, Reals, Region, Relation, Value
from unigrad.verify.numbers import fraction_latex, repeating_decimal

TOLERANCE = 1e-6
"""Relative. A decimal may stand for an irrational number where it is this close, and equal in 6 decimals."""
DIGITS, MOST_DIGITS = 50, 400
"""Formulas are evaluated to so many digits: those that agree in all but the last few are equal."""

# math-verify's own `parse` is not used: where LaTeX cannot be read, it takes any number within it for the answer.
# Units are taken off before, where a unit can be told from a variable: here, sin 2t would become sin 2.
_NORMALIZATION = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none")
_CONVERSION = ConversionConfig(lowercase_symbols=False)  # r and R are two radii
_IMAGINARY = Symbol("i", real=True)

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
_E_NOTATION = re.compile(r"(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)) ?[eE] ?(?P<exponent>[+-]?[0-9]{1,3})")
_REPEATING = re.compile(r"(?<![0-9.])([0-9]{1,9})\.([0-9]{0,9})\\overline ?\{ ?([0-9]{1,9}) ?\}(?![0-9])")
_SHAPES = re.compile(
    r"\\(?:angle|triangle|overline|overrightarrow|overleftrightarrow|widehat|odot|parallel|perp)(?![a-z])"
)


def judge(extracted: str, gold: str) -> str:
    """The verdict's reason on two answers as they were written."""
    _read.cache_clear()  # what a check costs must not depend on those before it
    return comparing.judge(extracted, gold, Formulas())


class Formulas:
    """The algebra of `comparing`."""

    def equal(self, gold: str, given: str) -> bool:
        if _SHAPES.search(gold):
            return gold.replace(" ", "") == given.replace(" ", "")
        return _equal(_formula(gold, True), _formula(given, False), _decimals(gold, given))

    def equal_hundredfold(self, percentage: str, plain: str) -> bool:
        formula, other = _read(percentage), _read(plain)
        if not isinstance(formula, Expr) or not isinstance(other, Expr):
            return False
        return _equal(formula / 100, other, _decimals(percentage, plain))

    def same_equation(self, gold: tuple[str, ...], given: tuple[str, ...]) -> bool:
        one, other = (
            [_formula(side, is_gold) for side in (sides[0], sides[-1])]
            for sides, is_gold in ((gold, True), (given, False))
        )
        if not all(isinstance(side, Expr) for side in (*one, *other)):
            return bool(_verified(_equality(one), _equality(other)))
        formula, other_formula = _as_variables(one[0] - one[1], other[0] - other[1])
        if _proportional(formula, other_formula):
            return True
        zeros = _same_zeros(formula, other_formula)
        return _verified(_equality(one), _equality(other)) if zeros is None else zeros

    def same_region(self, gold: Node, given: Node) -> bool:
        relations = [_relations(node, is_gold) for node, is_gold in ((gold, True), (given, False))]
        symbols = [_symbols(found) for found in relations]
        if symbols[0] and symbols[1] and symbols[0] != symbols[1]:
            return False
        if max(map(len, symbols)) > 1:
            return _same_relations(*relations)
        return _same_sets(_set(gold, True), _set(given, False))


def _formula(latex: str, is_gold: bool) -> Any:
    formula = _read(latex)
    if formula is None:
        raise UnreadableError(is_gold)
    return formula


@functools.lru_cache(maxsize=512)  # the items of two lists are each compared with several
def _read(answer: str) -> Any:
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


def _decimals(*texts: str) -> bool:
    return any(_DECIMAL.search(text) for text in texts)


def _equal(gold: Any, given: Any, decimals: bool) -> bool:
    gold, given = (side.doit() if isinstance(side, MatrixExpr) else side for side in (gold, given))
    if gold == given:
        return True
    if isinstance(gold, MatrixBase) or isinstance(given, MatrixBase):
        if not (isinstance(gold, MatrixBase) and isinstance(given, MatrixBase)) or gold.shape != given.shape:
            return False
        return all(_equal(one, other, decimals) for one, other in zip(gold, given, strict=True))
    if not (isinstance(gold, Expr) and isinstance(given, Expr)):
        return _verified(gold, given)
    if any(side.has(oo, -oo, zoo, nan) for side in (gold, given)):
        return bool(gold.doit() == given.doit())
    if not gold.free_symbols and not given.free_symbols:
        return _equal_numbers(gold, given, decimals)
    same_everywhere = _agree(gold, given)
    if same_everywhere is None:
        return _verified(gold, given)
    return same_everywhere


def _equal_numbers(gold: Any, given: Any, decimals: bool) -> bool:
    if isinstance(gold, Rational) and isinstance(given, Rational):
        return bool(gold == given)
    if gold.has(Integral) or given.has(Integral):
        return _verified(gold, given)
    one, other = _evaluated(gold), _evaluated(given)
    if one is None or other is None:
        return _verified(gold, given)
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


def _equality(sides: list[Any]) -> Any:
    return Equality(*sides, evaluate=False)


def _as_variables(*formulas: Any) -> list[Any]:
    """With f(x) as a variable of its own."""
    functions = sorted(set().union(*(formula.atoms(AppliedUndef) for formula in formulas)), key=str)
    names = {function: Symbol(f"value{index}", real=True) for index, function in enumerate(functions)}
    return [formula.xreplace(names) for formula in formulas]


def _proportional(one: Any, other: Any) -> bool:
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


def _same_zeros(one: Any, other: Any) -> bool | None:
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


def _verified(gold: Any, given: Any) -> bool:
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


def _relations(node: Node, is_gold: bool) -> list[Any]:
    """The inequalities in it, each as (sign, left side − right side)."""
    if isinstance(node, Relation):
        sides = [_formula(side, is_gold) for side in node.sides]
        if not all(isinstance(side, Expr) for side in sides):
            raise UnreadableError(is_gold)
        functions = {
            function: Symbol(str(function), real=True) for side in sides for function in side.atoms(AppliedUndef)
        }
        sides = [side.xreplace(functions) for side in sides]
        return [(sign, sides[index], sides[index + 1]) for index, sign in enumerate(node.signs)]
    if isinstance(node, Region):
        return [relation for part in node.parts for relation in _relations(part, is_gold)]
    return []


def _symbols(relations: list[Any]) -> set[str]:
    return {str(symbol) for _, left, right in relations for symbol in left.free_symbols | right.free_symbols}


def _same_relations(gold: list[Any], given: list[Any]) -> bool:
    """In several variables: the same inequalities, up to positive factors."""
    if len(gold) != len(given):
        return False
    left = [_upwards(relation) for relation in given]
    for sign, formula in map(_upwards, gold):
        for position, (other_sign, other) in enumerate(left):
            if sign == other_sign and _proportional(formula, other):
                point = {
                    symbol: Rational(137, 100) + index
                    for index, symbol in enumerate(sorted(formula.free_symbols, key=str))
                }
                if sign == r"\ne" or (formula.subs(point) * other.subs(point)).evalf() > 0:
                    del left[position]
                    break
        else:
            return False
    return True


def _upwards(relation: Any) -> tuple[str, Any]:
    """(sign, formula) of formula < 0, ≤ 0 or ≠ 0."""
    sign, left, right = relation
    if sign in (">", r"\ge"):
        return ("<" if sign == ">" else r"\le"), right - left
    return sign, left - right


def _set(node: Node, is_gold: bool) -> Any:
    if isinstance(node, Reals):
        return S.Reals
    if isinstance(node, Empty):
        return EmptySet
    if isinstance(node, Braced):
        return FiniteSet(*(_number(item, is_gold) for item in node.items))
    if isinstance(node, Bracketed):
        if len(node.items) != 2:
            raise UnreadableError(is_gold)
        low, high = (_number(item, is_gold) for item in node.items)
        return Interval(low, high, node.opening == "(", node.closing == ")")
    if isinstance(node, Relation):
        return Intersection(*(_half_line(*relation) for relation in _relations(node, is_gold)))
    if isinstance(node, Region):
        parts = [_set(part, is_gold) for part in node.parts]
        if node.operation == "difference":
            whole = parts[0]
            for part in parts[1:]:
                whole = Complement(whole, part)
            return whole
        if node.operation == "intersection":
            return Intersection(*parts)
        union = Union(*parts)
        # Commas between inequalities mean "or", unless nothing would be excluded: x > 2, x < 5.
        return Intersection(*parts) if node.operation == "listed" and union == S.Reals else union
    raise UnreadableError(is_gold)


def _number(node: Node, is_gold: bool) -> Any:
    if not isinstance(node, Value):
        raise UnreadableError(is_gold)
    return _formula(node.latex, is_gold)


def _half_line(sign: str, left: Any, right: Any) -> Any:
    if right.free_symbols and not left.free_symbols:
        mirrored = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}
        sign, left, right = mirrored.get(sign, sign), right, left
    if left.is_Symbol and not right.free_symbols:
        if sign == r"\ne":
            return Complement(S.Reals, FiniteSet(right))
        if sign in ("<", r"\le"):
            return Interval(-oo, right, True, sign == "<")
        return Interval(right, oo, sign == ">", True)
    kinds = {"<": left < right, ">": left > right, r"\le": left <= right, r"\ge": left >= right}
    relation = kinds[sign] if sign in kinds else Unequality(left, right)
    if relation in (S.true, S.false):
        return S.Reals if relation else EmptySet
    return relation.as_set()


def _same_sets(gold: Any, given: Any) -> bool:
    if gold == given:
        return True
    if not isinstance(gold, Set) or not isinstance(given, Set):
        return False
    pieces = [_pieces(side) for side in (gold, given)]
    if pieces[0] is None or pieces[1] is None:
        return bool(verify(gold, given, allow_set_relation_comp=True, timeout_seconds=None))
    return len(pieces[0]) == len(pieces[1]) and all(
        one[1:3] == other[1:3] and _equal(one[0], other[0], False) and _equal(one[3], other[3], False)
        for one, other in zip(*pieces, strict=True)
    )


def _pieces(region: Any) -> list[tuple[Any, bool, bool, Any]] | None:
    """Intervals and points from left to right, as (start, left open, right open, end); None where it is of others."""
    pieces = []
    for part in region.args if isinstance(region, Union) else (region,):
        if isinstance(part, Interval):
            pieces.append((part.start, bool(part.left_open), bool(part.right_open), part.end))
        elif isinstance(part, FiniteSet):
            pieces += [(point, False, False, point) for point in part.args]
        elif part != EmptySet:
            return None
    if any(piece[0].free_symbols or piece[3].free_symbols for piece in pieces):
        return pieces if len(pieces) == 1 else None
    return sorted(pieces, key=lambda piece: float(piece[0]))
