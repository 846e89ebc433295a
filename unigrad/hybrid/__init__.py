"""Hybrid Post-Training (§3.4): the gate, the methods as data, and their terms as weighted rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unigrad.hybrid.decisions import Decision, Objective, decide
from unigrad.hybrid.gates import Gate, gate, register_gate
from unigrad.hybrid.methods import METHODS, Method, Stage, method, register_method
from unigrad.hybrid.terms import Term, averaged_alike

if TYPE_CHECKING:
    from unigrad.hybrid.rows import rows_of

__all__ = [
    "METHODS",
    "Decision",
    "Gate",
    "Method",
    "Objective",
    "Stage",
    "Term",
    "averaged_alike",
    "decide",
    "gate",
    "method",
    "register_gate",
    "register_method",
    "rows_of",
]


def __getattr__(name: str) -> Any:
    # The declarations must not cost the import of torch.
    if name == "rows_of":
        from unigrad.hybrid.rows import rows_of

        return rows_of
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
