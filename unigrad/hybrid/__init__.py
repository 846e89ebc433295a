"""Hybrid Post-Training (§3.4): the gate, the methods as data, and the mixed loss as weighted rows."""

from unigrad.hybrid.gates import Gate, gate
from unigrad.hybrid.methods import METHODS, Method, Stage, method
from unigrad.hybrid.mixture import Decision, Mixture, Objective, Row, decide, mix

__all__ = [
    "METHODS",
    "Decision",
    "Gate",
    "Method",
    "Mixture",
    "Objective",
    "Row",
    "Stage",
    "decide",
    "gate",
    "method",
    "mix",
]
