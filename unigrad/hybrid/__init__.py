"""Hybrid Post-Training (§3.4): the gate, the methods as data, and the mixed loss as weighted rows."""

from unigrad.hybrid.gates import Gate, gate
from unigrad.hybrid.methods import METHODS, Method, method
from unigrad.hybrid.mixture import Decision, Mixture, Row, decide, mix

__all__ = ["METHODS", "Decision", "Gate", "Method", "Mixture", "Row", "decide", "gate", "method", "mix"]
