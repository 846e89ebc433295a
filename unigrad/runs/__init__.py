"""A run's folder: every name in it, and for each file the one place that writes it and the one that reads it.

Empty on purpose: what reads a run must not pay for what writes to TensorBoard.
"""
