"""unigrad: one gradient for LLM post-training (arXiv:2509.04419)."""

import os

from unigrad import machine as machine  # notes first whether torch is loaded already

# OpenMP's waiting threads spin by default. Where another process shares the cores, each of a small model's many short
# parallel regions then waits for a thread that is not running: decoding became 70 times slower on two busy cores.
# It is read when torch is loaded, hence here; a user's own setting stands.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
