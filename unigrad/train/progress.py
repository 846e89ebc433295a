"""What the user sees of a run: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time

from rich.console import Console

from unigrad.live import LiveDisplay, clock


class Display(LiveDisplay):
    """Step, accuracy, offline ratio, tokens per second and time left."""

    def __init__(self, console: Console, max_steps: int, first_step: int) -> None:
        super().__init__(console, "step", max_steps, first_step - 1)
        self._start = time.monotonic()
        self._first_step = first_step
        self._accuracy: float | None = None

    def evaluated(self, step: int, accuracy: float, by_level: dict[int, float]) -> None:
        self._accuracy = accuracy
        levels = "  ".join(f"level {level} {share:.1%}" for level, share in sorted(by_level.items()))
        self.say(f"step {step}: held-out accuracy {accuracy:.1%}" + (f"   ({levels})" if levels else ""))

    def stepped(self, step: int, reward: float | None, offline_ratio: float, tokens_per_second: float) -> None:
        facts = [] if self._accuracy is None else [f"accuracy {self._accuracy:.1%}"]
        if reward is not None:
            facts.append(f"reward {reward:.2f}")
        left = (time.monotonic() - self._start) / (step - self._first_step + 1) * (self._total - step)
        facts += [f"offline {offline_ratio:.0%}", f"{tokens_per_second:,.0f} tokens/s", f"{clock(left)} left"]
        self.show(step, "  ".join(facts))
