"""The seconds of a step's parts, by hooks on the policy and the optimizer: the step itself knows nothing of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import torch

from unigrad.bench.measured import Part
from unigrad.runs.metrics import Metric
from unigrad.train.step import Step


class Mark(Enum):
    STATISTICS_BEGIN = auto()
    STATISTICS_END = auto()
    FORWARD_BEGIN = auto()
    GRADIENT_DONE = auto()
    STEPPED = auto()


@dataclass(slots=True)
class Clock:
    """The marks of a step, in the order of time."""

    device: torch.device
    marks: list[tuple[Mark, float]] = field(default_factory=list)

    def mark(self, mark: Mark) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.marks.append((mark, time.perf_counter()))

    def parts(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        """Seconds of each part of the step that was marked, whose metrics these are."""
        found = dict.fromkeys(Part, 0.0)
        begin, last = 0.0, 0.0
        for mark, now in self.marks:
            match mark:
                case Mark.STATISTICS_BEGIN | Mark.FORWARD_BEGIN:
                    begin = last = now
                case Mark.STATISTICS_END:
                    found[Part.OLD_LOGPROBS] += now - begin
                case Mark.GRADIENT_DONE:
                    # The last of a backward counts: what lies between several belongs to it.
                    found[Part.FORWARD_BACKWARD] += now - last
                    last = now
                case Mark.STEPPED:
                    found[Part.OPTIMIZER] += now - last
                    last = now
        found[Part.ROLLOUTS] = metrics[Metric.TIME_ROLLOUT]
        found[Part.VERIFY] = metrics[Metric.TIME_VERIFY]
        found[Part.REST] = metrics[Metric.TIME_STEP] - sum(found.values())
        return {str(part): seconds for part, seconds in found.items()}


@contextmanager
def clocked(step: Step) -> Iterator[Clock]:
    """A clock that marks whatever the step's policy and optimizer do while this is entered."""
    clock = Clock(step.policy.device)

    def before(*_: Any) -> None:
        clock.mark(Mark.FORWARD_BEGIN if torch.is_grad_enabled() else Mark.STATISTICS_BEGIN)

    def after(*_: Any) -> None:
        if not torch.is_grad_enabled():
            clock.mark(Mark.STATISTICS_END)

    # Of all parameters the input embedding gets its gradient last.
    embedding = step.policy.model.get_input_embeddings().weight
    hooks = (
        step.policy.register_forward_pre_hook(before),
        step.policy.register_forward_hook(after),
        embedding.register_post_accumulate_grad_hook(lambda _: clock.mark(Mark.GRADIENT_DONE)),
        step.optimizer.register_step_post_hook(lambda *_: clock.mark(Mark.STEPPED)),
    )
    try:
        yield clock
    finally:
        for hook in hooks:
            hook.remove()
