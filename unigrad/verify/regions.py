"""Inequalities, intervals and sets, as sympy's: whether two are the same."""

from __future__ import annotations

from typing import Any

from math_verify import verify
from sympy import Complement, EmptySet, Expr, FiniteSet, Intersection, Interval, Rational, S, Set, Symbol, Union, oo
from sympy.core.function import AppliedUndef
from sympy.core.relational import Unequality

from unigrad.verify.comparing import UnreadableError
from unigrad.verify.equality import equal, proportional
from unigrad.verify.latex import formula_of
from unigrad.verify.nodes import Braced, Bracketed, Empty, Node, Reals, Region, Relation, Value


def relations_in(node: Node, is_gold: bool) -> list[Any]:
    """The inequalities in it, each as (sign, left side − right side)."""
    if isinstance(node, Relation):
        sides = [formula_of(side, is_gold) for side in node.sides]
        if not all(isinstance(side, Expr) for side in sides):
            raise UnreadableError(is_gold)
        functions = {
            function: Symbol(str(function), real=True) for side in sides for function in side.atoms(AppliedUndef)
        }
        sides = [side.xreplace(functions) for side in sides]
        return [(sign, sides[index], sides[index + 1]) for index, sign in enumerate(node.signs)]
    if isinstance(node, Region):
        return [relation for part in node.parts for relation in relations_in(part, is_gold)]
    return []


def symbols_in(relations: list[Any]) -> set[str]:
    return {str(symbol) for _, left, right in relations for symbol in left.free_symbols | right.free_symbols}


def same_relations(gold: list[Any], given: list[Any]) -> bool:
    """In several variables: the same inequalities, up to positive factors."""
    if len(gold) != len(given):
        return False
    left = [_upwards(relation) for relation in given]
    for sign, formula in map(_upwards, gold):
        for position, (other_sign, other) in enumerate(left):
            if sign == other_sign and proportional(formula, other):
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


def set_of(node: Node, is_gold: bool) -> Any:
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
        return Intersection(*(_half_line(*relation) for relation in relations_in(node, is_gold)))
    if isinstance(node, Region):
        parts = [set_of(part, is_gold) for part in node.parts]
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
    return formula_of(node.latex, is_gold)


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


def same_sets(gold: Any, given: Any) -> bool:
    if gold == given:
        return True
    if not isinstance(gold, Set) or not isinstance(given, Set):
        return False
    pieces = [_pieces(side) for side in (gold, given)]
    if pieces[0] is None or pieces[1] is None:
        return bool(verify(gold, given, allow_set_relation_comp=True, timeout_seconds=None))
    return len(pieces[0]) == len(pieces[1]) and all(
        one[1:3] == other[1:3] and equal(one[0], other[0], False) and equal(one[3], other[3], False)
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
