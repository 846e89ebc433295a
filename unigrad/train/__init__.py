"""Training: Algorithm 1 as a loop that can be stopped and resumed at any step.

Nothing that this imports imports torch.
"""

from unigrad.callable_package import callable_as
from unigrad.train import from_python

callable_as(__name__, from_python.train)
