"""The part of a check that a worker process runs: the algebra of `comparing`, on formulas read from their LaTeX."""

from __future__ import annotations

import re
from typing import Any

from sympy import Expr
from sympy.core.relational import Equality

from unigrad.verify import comparing
from unigrad.verify.equality import as_variables, equal, has_decimals, proportional, same_zeros, verified
from unigrad.verify.latex import formula_of, read_formula
from unigrad.verify.nodes import Node
from unigrad.verify.regions import relations_in, same_relations, same_sets, set_of, symbols_in

_SHAPES = re.compile(
    r"\\(?:angle|triangle|overline|overrightarrow|overleftrightarrow|widehat|odot|parallel|perp)(?![a-z])"
)


def judge(extracted: str, gold: str) -> str:
    """The verdict's reason on two answers as they were written."""
    read_formula.cache_clear()  # what a check costs must not depend on those before it
    return comparing.judge(extracted, gold, Formulas())


class Formulas:
    """The algebra of `comparing`."""

    def equal(self, gold: str, given: str) -> bool:
        if _SHAPES.search(gold):
            return gold.replace(" ", "") == given.replace(" ", "")
        return equal(formula_of(gold, True), formula_of(given, False), has_decimals(gold, given))

    def equal_hundredfold(self, percentage: str, plain: str) -> bool:
        formula, other = read_formula(percentage), read_formula(plain)
        if not isinstance(formula, Expr) or not isinstance(other, Expr):
            return False
        return equal(formula / 100, other, has_decimals(percentage, plain))

    def same_equation(self, gold: tuple[str, ...], given: tuple[str, ...]) -> bool:
        one, other = (
            [formula_of(side, is_gold) for side in (sides[0], sides[-1])]
            for sides, is_gold in ((gold, True), (given, False))
        )
        if not all(isinstance(side, Expr) for side in (*one, *other)):
            return bool(verified(_equality(one), _equality(other)))
        formula, other_formula = as_variables(one[0] - one[1], other[0] - other[1])
        if proportional(formula, other_formula):
            return True
        zeros = same_zeros(formula, other_formula)
        return verified(_equality(one), _equality(other)) if zeros is None else zeros

    def same_region(self, gold: Node, given: Node) -> bool:
        relations = [relations_in(node, is_gold) for node, is_gold in ((gold, True), (given, False))]
        symbols = [symbols_in(found) for found in relations]
        if symbols[0] and symbols[1] and symbols[0] != symbols[1]:
            return False
        if max(map(len, symbols)) > 1:
            return same_relations(*relations)
        return same_sets(set_of(gold, True), set_of(given, False))


def _equality(sides: list[Any]) -> Any:
    return Equality(*sides, evaluate=False)
