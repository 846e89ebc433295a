"""unigrad: one gradient for LLM post-training (arXiv:2509.04419).

From Python, as on the command line: `unigrad.train`, `unigrad.evaluate`, `unigrad.compare`, `unigrad.report`, and
`unigrad.Run`, a run that is there.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from unigrad import machine as machine  # notes first whether torch is loaded already

if TYPE_CHECKING:
    from unigrad.compare.from_python import compare as compare
    from unigrad.evaluate.from_python import evaluate as evaluate
    from unigrad.report.from_python import report as report
    from unigrad.train.from_python import train as train
    from unigrad.train.handle import Run as Run

# OpenMP's waiting threads spin by default. Where another process shares the cores, each of a small model's many short
# parallel regions then waits for a thread that is not running: decoding became 70 times slower on two busy cores. Ones
# that sleep at once must be woken for each region, a third of a small model's time on idle cores. So they spin for some
# 20 µs, as GNU's OpenMP lets them by itself where threads are more than cores; others' threads sleep at once.
# It is read when torch is loaded, hence here; a user's own setting stands.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

__version__ = "0.1.0"

_CALLABLE = ("train", "evaluate", "compare", "report")


def __getattr__(name: str) -> Any:
    # Only when asked for: torch and transformers take seconds to import.
    if name in _CALLABLE:
        return import_module(f"{__name__}.{name}")
    if name == "Run":
        return import_module(f"{__name__}.train.handle").Run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_CALLABLE, "Run"]
