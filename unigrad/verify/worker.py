"""The program a verification worker runs: one JSON line in, a question; one JSON line out, its verdict.

It is started as a script (see `pool`) and imports nothing of this package, so that a worker never loads torch.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

MEMORY_BYTES = 1 << 30
"""How much a worker's address space may grow once it is ready: a huge power must not take the machine's memory."""

TOLERANCE = 1e-6
"""Relative. A decimal may stand for an irrational number where it is this close, and equal in 6 decimals."""

# Read before any time is limited, because the first formulas of a process cost it half a second.
WARM_UP = (r"x^{2}+\frac{4x}{\sqrt{4}}+1", "(x+1)^{2}")


def main() -> None:
    replies = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # parsers print their complaints
    logging.disable()

    judge = _judge()
    judge(*WARM_UP)
    os.dup2(nowhere, 2)  # until here, an error of the installation is worth showing
    _limit_memory()
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    _send(replies, "ready")
    for line in sys.stdin:
        extracted, gold, seconds = json.loads(line)
        # The kernel ends the process when this much processor time is spent, whatever it is doing, parent or no parent.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        reason = judge(extracted, gold)
        signal.setitimer(signal.ITIMER_PROF, 0)
        _send(replies, reason)


def _judge() -> Callable[[str, str], str]:
    """The function that judges (extracted, gold). The libraries are imported here, after their output is silenced."""
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig, NormalizationConfig, latex2sympy, normalize_latex
    from math_verify import verify
    from sympy import FiniteSet, I, Symbol, Union
    from sympy.core.relational import Equality, Relational

    # math-verify's own `parse` is not used: where LaTeX cannot be read, it takes any number within it for the answer.
    # Units are taken off before, where a unit can be told from a variable: here, sin 2t would become sin 2.
    normalization = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none"
    )
    conversion = ConversionConfig(lowercase_symbols=False)  # r and R are two radii
    imaginary = Symbol("i", real=True)

    def read(answer: str) -> Any:
        """None where it cannot be read."""
        latex = normalize_latex(answer, normalization)

        def convert(is_real: bool | None) -> Any:
            return latex2sympy(latex, is_real=is_real, normalization_config=None, conversion_config=conversion)

        try:
            formula = convert(True)
            if imaginary in formula.free_symbols:
                formula = convert(None).xreplace({Symbol("i"): I})  # z = 4 - 3i: no variable is real any more
            if isinstance(formula, FiniteSet) and all(is_inequality(item) for item in formula.args):
                return Union(*(item.as_set() for item in formula.args))  # x < 1 or x > 4
        except Exception:  # noqa: BLE001 - a parser of arbitrary strings raises anything
            return None
        return formula

    def is_inequality(formula: object) -> bool:
        return isinstance(formula, Relational) and not isinstance(formula, Equality)

    def apart(gold: Any, formula: Any) -> bool:
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

    def judge(extracted: str, gold: str) -> str:
        gold_formula = read(gold)
        if gold_formula is None:
            return "bad gold"
        formula = read(extracted)
        if formula is None:
            return "unparseable"
        right = verify(gold_formula, formula, allow_set_relation_comp=True, timeout_seconds=None)
        return "right" if right and not apart(gold_formula, formula) else "wrong"

    return judge


def _send(replies: TextIO, message: str) -> None:
    replies.write(json.dumps(message) + "\n")
    replies.flush()


def _limit_memory() -> None:
    statm = Path("/proc/self/statm")
    if statm.exists():
        import resource

        limit = int(statm.read_text().split()[0]) * resource.getpagesize() + MEMORY_BYTES
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


if __name__ == "__main__":
    main()
