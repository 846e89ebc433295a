"""unigrad: one gradient for LLM post-training (arXiv:2509.04419)."""

__version__ = "0.1.0"
