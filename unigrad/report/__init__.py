"""The paper's figures and tables from what runs have written, and a page to read their rollouts in.

Nothing that this imports draws: the command line must not pay for that before it has checked its input.
"""

from unigrad.callable_package import callable_as
from unigrad.report import from_python

callable_as(__name__, from_python.report)
