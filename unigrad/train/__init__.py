"""Training: Algorithm 1 as a loop that can be stopped and resumed at any step."""

from unigrad.train.run import run, show_plan

__all__ = ["run", "show_plan"]
