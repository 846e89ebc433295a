"""metrics.jsonl: the name of every metric, and a run's numbers read back, finished or not."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from statistics import fmean
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, TypeAdapter

from unigrad.errors import ConfigError
from unigrad.files import Count, Number, checked, json_lines
from unigrad.runs.folder import METRICS_FILE, is_finished
from unigrad.types import Reason


class Metric(StrEnum):
    """A metric's name in metrics.jsonl, TensorBoard and W&B. Those of an evaluation and of a verdict are made below."""

    meaning: str

    def __new__(cls, name: str, meaning: str) -> Self:
        member = str.__new__(cls, name)
        member._value_ = name
        member.meaning = meaning
        return member

    STEP = "step", "steps done; 0 is before training"
    REWARD_MEAN = "reward/mean", "mean reward of the rollouts"
    OFFLINE_RATIO = "gate/offline_ratio", "share of the questions trained on their demonstration (Figure 6)"
    OFFLINE_ROWS = "gate/offline_rows", "share of the demonstrations in the rows that train (Figures 6 and 8, by rows)"
    DROPPED = "gate/dropped", "share of the questions that the gate leaves out"
    NO_DEMONSTRATION = "gate/no_demonstration", "share of the questions whose gate fell back, for want of one"
    SOLVED_NONE = "gate/solved_none", "share of the questions that no rollout solves"
    SOLVED_ALL = "gate/solved_all", "share of the questions that every rollout solves"
    BEST_STEP = "eval/best_step", "step of the best evaluation so far, whose checkpoint is kept (train.keep_best)"
    ENTROPY = "policy/entropy", "entropy of the sampled tokens' distributions, in nats"
    CUT_MASS = "policy/cut_mass", "probability that top_p and top_k kept from the sampler, a mean over its tokens"
    CLIP_FRACTION = "policy/clip_fraction", "share of the rollouts' tokens that the mask sets to 0"
    MISMATCH_MEAN = "policy/rollout_mismatch_mean", "mean distance of the trainer's log-probs from the engine's"
    MISMATCH_MAX = "policy/rollout_mismatch_max", "the largest such distance, in nats"
    MISMATCH_KL = "policy/rollout_mismatch_kl", "k3 estimate of KL(engine‖trainer) a token, in nats"
    EFFECTIVE_SAMPLES = "policy/rollout_ess", "effective sample size of their ratio, a share of the tokens"
    LENGTH_MEAN = "response/length_mean", "tokens of a rollout, the end token included"
    TRUNCATED = "response/truncated", "share of the rollouts that their length ran out on"
    LOSS = "loss", "the surrogate's value, a mean over the updates"
    VALUE_LOSS = "value_loss", "of the value head, where there is one"
    GRAD_NORM = "grad_norm", "before clipping, a mean over the updates"
    LEARNING_RATE = "learning_rate", "of the step"
    TRAIN_ENTROPY = "train/entropy", "entropy over the tokens trained on, in nats"
    UPDATES = "train/updates", "optimizer steps"
    UPDATES_SKIPPED = "train/updates_skipped", "those left out since their gradient was not finite"
    TOKENS_GENERATED = "tokens/generated", "sampled"
    TOKENS_TRAINED = "tokens/trained", "in a forward and backward"
    TOKENS_SKIPPED = "tokens/skipped", "of weight 0: of rows that are not computed, and those that the head leaves out"
    TOKENS_COMPUTED = "tokens/computed", "of the updates' forward passes: a shared prompt once, pads except attention's"
    TIME_ROLLOUT = "time/rollout", "seconds of sampling"
    TIME_VERIFY = "time/verify", "seconds of scoring"
    TIME_TRAIN = "time/train", "seconds from the decisions to the last update"
    TIME_STEP = "time/step", "seconds of the whole step"


def verdict_metric(reason: Reason) -> str:
    """The share of the rollouts with that verdict."""
    return f"verify/{reason.name.lower()}"


def layout_metric(layout: str) -> str:
    """The share of `tokens/computed` in that layout."""
    return f"layout/{layout}"


def reward_metric(name: str) -> str:
    """The mean of one of several rewards, before its weight, over the rollouts that it does not leave out."""
    return f"reward/{name}/mean"


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The mean over problems of the share of their samples that is right (avg@k); by level where problems have one."""

    accuracy: float
    by_level: dict[int, float]

    def metrics(self, suite: str) -> dict[str, float]:
        levels = {f"eval/{suite}/level_{level}": share for level, share in sorted(self.by_level.items())}
        return {f"eval/{suite}/accuracy": self.accuracy, **levels}


def mean_accuracy(sets: Sequence[Accuracy]) -> Accuracy:
    """Of several sets, each counted once however many its problems: what the papers' tables call the average."""
    levels = sorted({level for each in sets for level in each.by_level})
    return Accuracy(
        accuracy=fmean(each.accuracy for each in sets),
        by_level={level: fmean(each.by_level[level] for each in sets if level in each.by_level) for level in levels},
    )


_REWARD = re.compile(r"reward/(?P<name>.+)/mean")
_EVALUATION = re.compile(r"eval/(?P<suite>.+)/(?:(?P<all>accuracy)|level_(?P<level>\d+))")
CURVES = (Metric.OFFLINE_RATIO, Metric.ENTROPY, Metric.LENGTH_MEAN)
LAST_STEPS = 10
"""Steps over which the final offline ratio is averaged: one step is too few questions to say anything."""


@dataclass(frozen=True, eq=False)
class RunMetrics:
    """The numbers of the run in `folder`, as far as they are written; a metric that never came has no points."""

    folder: Path

    @cached_property
    def lines(self) -> list[dict[str, Any]]:
        """One object a step; a last line cut off, by a kill or in the writing, is left out."""
        path = self.folder / METRICS_FILE
        return list(read_metrics(path)) if path.exists() else []

    @cached_property
    def evaluations(self) -> dict[int, Accuracy]:
        """On the held-out problems, by step; 0 is before training. Of several sets the mean."""
        found = {step: list(sets.values()) for step, sets in self.evaluations_by_set.items()}
        return {step: mean_accuracy(sets) for step, sets in found.items()}

    @cached_property
    def evaluations_by_set(self) -> dict[int, dict[str, Accuracy]]:
        """The same of each set, by its name."""
        return {line[Metric.STEP]: sets for line in self.lines if (sets := _accuracies(line))}

    @property
    def is_finished(self) -> bool:
        return is_finished(self.folder)

    @property
    def steps(self) -> int:
        """The last step with a line."""
        return max((int(line[Metric.STEP]) for line in self.lines), default=0)

    @property
    def base(self) -> Accuracy | None:
        return self.evaluations.get(0)

    @property
    def final(self) -> Accuracy:
        """Of the last evaluation. There must be one."""
        return self.evaluations[max(self.evaluations)]

    @property
    def accuracy(self) -> float:
        return self.final.accuracy

    @property
    def best_step(self) -> int | None:
        """Of the best evaluation whose checkpoint is kept; None where `train.keep_best` has kept none."""
        return next((line[Metric.BEST_STEP] for line in reversed(self.lines) if Metric.BEST_STEP in line), None)

    @property
    def tokens_generated(self) -> int:
        return sum(line.get(Metric.TOKENS_GENERATED) or 0 for line in self.lines)

    @property
    def tokens_trained(self) -> int:
        return sum(line.get(Metric.TOKENS_TRAINED) or 0 for line in self.lines)

    @property
    def tokens(self) -> int:
        """What train.max_tokens counts."""
        return self.tokens_generated + self.tokens_trained

    @property
    def tokens_by_step(self) -> dict[int, int]:
        """Generated and trained up to and with each step."""
        kinds = (Metric.TOKENS_GENERATED, Metric.TOKENS_TRAINED)
        spent = (sum(line.get(kind) or 0 for kind in kinds) for line in self.lines)
        return {0: 0, **dict(zip((line[Metric.STEP] for line in self.lines), accumulate(spent), strict=True))}

    @property
    def rewards(self) -> list[str]:
        """The names of the rewards whose sum counts; none where there is one alone."""
        names = dict.fromkeys(match["name"] for line in self.lines for key in line if (match := _REWARD.fullmatch(key)))
        return list(names)

    @property
    def minutes(self) -> float:
        return sum(line.get(Metric.TIME_STEP) or 0.0 for line in self.lines) / 60

    @property
    def offline_ratio(self) -> float | None:
        """Over the last steps."""
        ratios = list(self.curve(Metric.OFFLINE_RATIO).values())[-LAST_STEPS:]
        return fmean(ratios) if ratios else None

    @cached_property
    def curves(self) -> dict[str, dict[int, float]]:
        """The course of training by metric and step, the held-out `accuracy` among them."""
        accuracy = {step: found.accuracy for step, found in self.evaluations.items()}
        return {"accuracy": accuracy, **{metric: self.curve(metric) for metric in CURVES}}

    def curve(self, metric: str) -> dict[int, float]:
        """A metric by step; steps at which it was not finite, or not written, are left out."""
        return {line[Metric.STEP]: line[metric] for line in self.lines if line.get(metric) is not None}


class _Line(BaseModel):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Number | None]
    step: Count


_LINE = TypeAdapter(_Line)
_SHARES = (Metric.OFFLINE_RATIO,)


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a metrics file; a last one that is cut off is left out.

    Raises ConfigError on a line that is none of metrics: a step and numbers, the shares that are drawn within 0 and 1.
    """
    for number, line in enumerate(json_lines(path), start=1):
        where = f"{path}, line {number}"
        checked(line, _LINE, where)
        for key, value in line.items():
            is_share = key in _SHARES or _EVALUATION.fullmatch(key)
            if is_share and value is not None and not 0 <= value <= 1:
                raise ConfigError(f"{where} is damaged: {key} = {value}: a share is within 0 and 1")
        yield line


def measure(folder: Path) -> RunMetrics | None:
    """The numbers of the run in `folder`; None where it has none yet, not even one evaluation."""
    found = RunMetrics(folder)
    return found if found.evaluations else None


def _accuracies(line: Mapping[str, Any]) -> dict[str, Accuracy]:
    overall: dict[str, float] = {}
    levels: dict[str, dict[int, float]] = defaultdict(dict)
    for key, value in line.items():
        match = _EVALUATION.fullmatch(key)
        if match is None or value is None:
            continue
        if match["all"]:
            overall[match["suite"]] = value
        else:
            levels[match["suite"]][int(match["level"])] = value
    return {name: Accuracy(accuracy, levels[name]) for name, accuracy in overall.items()}
