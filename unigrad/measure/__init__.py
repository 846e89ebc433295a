"""What runs have written, as numbers: metrics by step, accuracies, their intervals over seeds, and lines with bands."""
