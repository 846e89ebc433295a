"""What settings.json and results.json of an evaluation hold, as far as it is read again."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Annotated, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from unigrad.files import Count, Number, Proportion, Text, Whole

T = TypeVar("T")


class _Object(BaseModel):
    """An object with more in it than stands here."""

    model_config = ConfigDict(extra="allow")


_Some = Annotated[Count, Field(ge=1)]
_Interval = tuple[Number, Number]


class _Protocol(_Object):
    max_completion_length: _Some
    temperature: Number
    top_p: Number
    seed: Whole
    stop: list[Text] = []
    no_box: Text = ""


class _Source(_Object):
    source: Text
    problems: Text
    answers: Text


class _SampledWith(_Object):
    threads: Annotated[_Some, Field(le=65536)]
    positions: _Some | None
    device: Text
    dtype: Text
    prompt_templates: dict[Text, Text]
    versions: dict[Text, Text]


class _Settings(_Object):
    model: Text
    model_fingerprint: Text | None
    suite: list[Text]
    protocol: _Protocol
    benchmarks: dict[Text, _Source]
    sampled_with: _SampledWith

    @model_validator(mode="after")
    def _whole(self) -> Self:
        return _with_all(self, self.suite, self.benchmarks, "benchmarks")


class _Solved(_Object):
    n: _Some
    c: Count
    level: Whole | None

    @model_validator(mode="after")
    def _not_more_than_all(self) -> Self:
        if self.c > self.n:
            raise ValueError(f"{self.c} right of {self.n}")
        return self


class _Counted(_Object):
    title: Text
    counts: dict[Text, _Solved]


class _Accuracy(_Object):
    accuracy: Proportion
    interval: _Interval


class _Level(_Accuracy):
    problems: _Some


class _Pass(_Object):
    value: Proportion
    interval: _Interval


class _Reported(_Counted, _Accuracy):
    samples: _Some
    pass_at_k: dict[Annotated[str, Field(pattern=r"^[1-9]\d{0,17}$")], _Pass] = {}


class _Shown(_Reported):
    problems: _Some
    by_level: dict[Annotated[str, Field(pattern=r"^-?\d{1,18}$")], _Level]
    truncated: Proportion
    reasons: Annotated[dict[Text, _Some], Field(min_length=1)]


class _Suite(_Object):
    name: Text | None
    benchmarks: list[Text]


class _CountedResults(_Object):
    benchmarks: dict[Text, _Counted]


class _ReportedResults(_Object):
    label: Text
    suites: list[_Suite]
    averages: dict[Text, _Accuracy]
    benchmarks: Mapping[Text, _Reported]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        _with_all(self, (name for suite in self.suites for name in suite.benchmarks), self.benchmarks, "benchmarks")
        return _with_all(self, (suite.name for suite in self.suites if suite.name), self.averages, "averages")


class _ShownResults(_ReportedResults):
    benchmarks: Mapping[Text, _Shown]
    settings: _Settings


SETTINGS = TypeAdapter(_Settings)
COUNTED = TypeAdapter(_CountedResults)
"""What of results.json exclusive solves are counted from,"""
REPORTED = TypeAdapter(_ReportedResults)
"""what a report shows,"""
SHOWN = TypeAdapter(_ShownResults)
"""and what the command itself does."""


def _with_all(model: T, named: Iterable[str], there: Container[str], where: str) -> T:
    for name in named:
        if name not in there:
            raise ValueError(f"its suites name {name!r}, which is not among its {where}")
    return model
