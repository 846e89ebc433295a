"""Statistics of accuracies: intervals over seeds and over problems, pass@k. Nothing here knows of runs or models."""

CONFIDENCE = 0.95
"""Of every interval, whatever it is over."""
