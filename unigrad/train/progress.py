"""What the user sees of a run: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from unigrad.live import LiveDisplay, clock
from unigrad.rollout import Sampled
from unigrad.runs.metrics import Accuracy, Metric, mean_accuracy


@dataclass(frozen=True, slots=True)
class Watch:
    """Says how far a step, or an evaluation, is."""

    say: Callable[[str], None]

    def sampling(self, what: str, completions: int) -> Callable[[Sampled], None]:
        """To be told of each of so many completions as it ends."""
        start = time.monotonic()
        lengths: list[int] = []

        def sampled(each: Sampled) -> None:
            lengths.append(len(each.completion.token_ids))
            done, seconds = len(lengths), max(time.monotonic() - start, 1e-9)
            left = clock(seconds / done * (completions - done))
            pace = f"{sum(lengths) / seconds:,.0f} tokens/s  {left} left"
            self.say(f"{what} {done}/{completions}  {pace}" if done < completions else f"{what}: scoring")

        return sampled

    def training(self, update: int, updates: int) -> Callable[[int, int], None]:
        """To be told of each micro-batch: its number, from 1, and how many there are."""
        return lambda number, batches: self.say(f"update {update}/{updates}, micro-batch {number}/{batches}")


UNWATCHED = Watch(lambda _facts: None)


class Display(LiveDisplay):
    """Step, accuracy, offline ratio, tokens per second and time left."""

    def __init__(self, console: Console, max_steps: int, first_step: int) -> None:
        super().__init__(console, "step", max_steps, first_step - 1)
        self._start = time.monotonic()
        self._first_step = first_step
        self._accuracy: float | None = None
        self._has_warned = False

    def evaluated(self, step: int, sets: Mapping[str, Accuracy]) -> None:
        """The accuracy of each held-out set by its name; of several their mean, of one its levels."""
        overall = mean_accuracy(list(sets.values()))
        self._accuracy = overall.accuracy
        levels = {f"level {level}": share for level, share in sorted(overall.by_level.items())}
        parts = levels if len(sets) == 1 else {name: each.accuracy for name, each in sets.items()}
        shown = "  ".join(f"{name} {share:.1%}" for name, share in parts.items())
        self.say(f"step {step}: held-out accuracy {overall.accuracy:.1%}" + (f"   ({shown})" if shown else ""))

    def watched(self, step: int, metrics: Mapping[str, Any], alarm: float | None) -> None:
        """Say once where the engine's log-probs are further from the trainer's than `alarm`, in nats of KL a token."""
        found = metrics.get(Metric.MISMATCH_KL)
        if alarm is not None and found is not None and found > alarm and not self._has_warned:
            self._has_warned = True
            self.say(
                f"WARNING: step {step}: {Metric.MISMATCH_KL} is {found:.2g}, above rollout.mismatch_alarm = {alarm:g}: "
                "the engine samples from another policy than the one that is trained"
            )

    def stepped(self, step: int, reward: float | None, offline_ratio: float, tokens_per_second: float) -> None:
        facts = [] if self._accuracy is None else [f"accuracy {self._accuracy:.1%}"]
        if reward is not None:
            facts.append(f"reward {reward:.2f}")
        left = (time.monotonic() - self._start) / (step - self._first_step + 1) * (self._total - step)
        facts += [f"offline {offline_ratio:.0%}", f"{tokens_per_second:,.0f} tokens/s", f"{clock(left)} left"]
        self.show(step, "  ".join(facts))
