"""The section `data`: which problem sets, and what becomes of their problems."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from unigrad.config.section import Given, NonNegative, Positive, Section, Share

EMBEDDED = "tiny"
"""What the embedded problem set is called."""


class ColumnsConfig(Section):
    id: str | None = None
    """Column of the problem's unique id; null: recognised by the ecosystem's names, else the row's number"""
    problem: str | None = None
    """Column of the question; null: problem, question, prompt, messages, …"""
    answer: str | None = None
    """Column of the gold answer; null: answer, final_answer, ground_truth, reward_model.ground_truth, …"""
    solution: str | None = None
    """Column of the demonstration; null: solution, demonstration, completion, target, …"""
    source: str | None = None
    """Column naming where a problem comes from; null: source, data_source, …"""
    level: str | None = None
    """Column of the difficulty; null: level, difficulty"""


class SourceConfig(Section):
    path: Given
    """As data.train"""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """How often each of its problems is met an epoch: 2 is twice, 0.5 in every other epoch"""
    split: str | None = None
    """In place of data.train_split"""
    subset: str | None = None
    """In place of data.subset"""
    columns: ColumnsConfig = ColumnsConfig()
    """In place of those of data.columns"""


class HeldOutConfig(Section):
    path: str
    """As data.train"""
    name: Annotated[str, Field(min_length=1, pattern=r"^[^/]+$")]
    """What its metrics are called, eval/NAME/accuracy; unless given, the file's name or the hub dataset's"""
    split: str | None = None
    """In place of data.eval_split"""
    subset: str | None = None
    """In place of data.subset"""
    columns: ColumnsConfig = ColumnsConfig()
    """In place of those of data.columns"""


def set_name(path: str) -> str:
    """What a problem set is called: the file's name without its endings, or the hub dataset's."""
    return Path(path).name.split(".")[0] or "problems"


class DataConfig(Section):
    train: Given | tuple[SourceConfig, ...] = EMBEDDED
    """Training problems: a file (.jsonl, .json, .csv, .parquet), folder, glob or hub dataset, or `tiny`, the embedded
    generator; or a list of them to be mixed, each alone or as {path: …, weight: 2, split: …, subset: …, columns: …}"""
    train_split: str = "train"
    """Split of a hub dataset to train on"""
    eval: Given | tuple[HeldOutConfig, ...] | None = EMBEDDED
    """Held-out problems, given like data.train; or several sets, each measured by itself: a list of paths, or {NAME:
    PATH, …}, or {NAME: {path: …, split: …, subset: …, columns: …}, …}; null: no evaluation. Where it is not given:
    `tiny` if data.train is, else null"""
    eval_split: str = "test"
    """Split of a hub dataset to evaluate on"""
    subset: str | None = None
    """Configuration name of a hub dataset (`main` for openai/gsm8k)"""
    columns: ColumnsConfig = ColumnsConfig()
    prompt_template: str = "plain"
    """How a problem becomes a prompt: a template's name (listed below) or your own text holding {problem}"""
    apply_chat_template: bool | None = None
    """Whether the tokenizer's chat template is put around that; null: where the template is a chat, and around your own
    text where the tokenizer has one"""
    chat_template_kwargs: dict[str, Any] = Field(default={})
    """What the chat template is given besides, such as {enable_thinking: false}; in evaluations too"""
    system_prompt: str | None = None
    """System prompt of every problem, in place of its own; empty: none; null: what a problem brings itself"""
    end_of_turn: str | None = None
    """Token that ends demonstrations and stops rollouts; null: what the chat template writes there, else EOS"""
    max_prompt_length: Positive = 1024
    """Longer prompts (in tokens) are dropped and counted, never cut"""
    max_demonstration_length: Positive | None = None
    """Longer demonstrations (in tokens) are dropped and counted, never cut; null: rollout.max_completion_length"""
    levels: tuple[int, ...] | None = None
    """Train only on the problems of these levels of difficulty: [3, 4, 5]; null: on all, those without a level too"""
    problems_per_level: Positive | None = None
    """Train on so many problems of each level (in a mix of each set); null: on all of them"""
    level_seed: NonNegative = 0
    """Seed of the choice for problems_per_level"""
    min_pass_rate: Share | None = None
    """Train only on problems that are solved at least so often, as their column of pass rates says (`unigrad evaluate
    MODEL --suite FILE --samples 8 --passes NEW` writes it); null: on all"""
    max_pass_rate: Share | None = None
    """Train only on problems that are solved at most so often, as that column says; null: on all"""
    pass_rate_column: str | None = None
    """Column of the pass rates, shares between 0 and 1; null: pass_rate, solve_rate, …"""
    max_train_problems: Positive | None = None
    """Use only the first so many training problems, of those that levels and pass rates leave; null: all"""
    max_eval_problems: Positive | None = None
    """Evaluate on only the first so many held-out problems, or of each benchmark; null: all"""

    @model_validator(mode="before")
    @classmethod
    def _held_out_of_the_same(cls, values: Any) -> Any:
        """Problems of one's own are not measured on the embedded ones, unless that is said."""
        if not isinstance(values, dict) or "eval" in values or "train" not in values:
            return values
        train = values["train"] if isinstance(values["train"], list | tuple) else [values["train"]]
        paths = [item.get("path") if isinstance(item, dict) else item for item in train]
        return values if EMBEDDED in paths else {**values, "eval": None}

    @field_validator("train", mode="before")
    @classmethod
    def _paths_alone(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        if not value:
            raise ValueError("it names no problem set")
        return [{"path": item} if isinstance(item, str) else item for item in value]

    @field_validator("eval", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """A list or a mapping of sets as a list of sections, each with its name."""
        if isinstance(value, dict):
            value = [
                {"name": name, **(item if isinstance(item, dict) else {"path": item})} for name, item in value.items()
            ]
        elif isinstance(value, list | tuple):
            value = [{"path": item} if isinstance(item, str) else item for item in value]
        else:
            return value
        if not value:
            raise ValueError("it names no problem set; null is no evaluation")
        return [
            {"name": set_name(item["path"]), **item}
            if isinstance(item, dict) and isinstance(item.get("path"), str)
            else item
            for item in value
        ]

    @field_validator("eval")
    @classmethod
    def _told_apart(cls, value: Any) -> Any:
        names = [each.name for each in value] if isinstance(value, tuple) else []
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two sets are called {twice[0]!r}; name them: {{NAME: PATH, NAME: PATH}}")
        return value

    @model_validator(mode="after")
    def _pass_rates(self) -> Self:
        least, most = self.min_pass_rate, self.max_pass_rate
        if least is not None and most is not None and least > most:
            raise ValueError(f"min_pass_rate ({least:g}) is above max_pass_rate ({most:g})")
        if self.pass_rate_column is not None and least is None and most is None:
            raise ValueError("pass_rate_column is of min_pass_rate and max_pass_rate, and neither is set")
        return self

    @property
    def held_out_sets(self) -> tuple[HeldOutConfig, ...]:
        if isinstance(self.eval, str):
            return (HeldOutConfig(path=self.eval, name=set_name(self.eval)),)
        return self.eval or ()

    @property
    def train_sets(self) -> tuple[SourceConfig, ...]:
        return (SourceConfig(path=self.train),) if isinstance(self.train, str) else self.train
