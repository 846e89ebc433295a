"""Methods against each other: one recipe, several methods and seeds, a table with intervals, and curves.

Empty on purpose: the command line reads `sets` alone, and must not pay for the rest before it has checked its input.
"""
