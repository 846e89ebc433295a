"""Methods against each other: one recipe, several methods and seeds, a table with intervals, and curves.

Nothing heavy here: the command line reads `sets` alone, and must not pay for the rest before it has checked its input.
"""

from unigrad.callable_package import callable_as
from unigrad.compare import from_python

callable_as(__name__, from_python.compare)
