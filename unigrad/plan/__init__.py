"""What a run would be and need, from its configuration and the model's dimensions alone."""

from unigrad.plan.memory import longest_row
from unigrad.plan.plan import plan_lines

__all__ = ["longest_row", "plan_lines"]
