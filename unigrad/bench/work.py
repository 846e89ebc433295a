"""Training steps of a given size: a run's own pieces, on prompts and completions of exactly these lengths."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig

from unigrad.bench.options import FIXED
from unigrad.config import Config, load_config
from unigrad.data import PreparedProblem
from unigrad.data.tiny import MODEL_PATH, model_source
from unigrad.hybrid import Objective
from unigrad.policy import find_architecture, transformers_api
from unigrad.rollout.engines import engine_builder
from unigrad.train.build import Build
from unigrad.train.questions import ProblemSet, Questions
from unigrad.train.step import Step
from unigrad.types import Attempt, Score, Scorer
from unigrad.verify.kept import KeptVerdicts

ANSWER = r"\frac{1}{3}"


@dataclass(frozen=True, slots=True)
class EveryOther:
    """Verifies as `scorer` does, and then rewards every other completion, so that all of them train."""

    scorer: Scorer

    def start(self, attempt: Attempt) -> Any:
        return self.scorer.start(attempt)

    def finish(self, started: Sequence[Any]) -> list[Score]:
        return [replace(score, reward=float(n % 2)) for n, score in enumerate(self.scorer.finish(started))]


def build(
    options: Mapping[str, str], sizes: Mapping[str, int], folder: Path, stack: ExitStack
) -> tuple[Step, Objective]:
    """A run's step under these `options` (keys of the configuration), and the stage to take it under.

    sizes: the `vocabulary` and the `layers` of a made-up model with random weights, in place of the model's own.
    folder: for what must lie on disk meanwhile. Raises ConfigError, ValueError or OSError as a run does.
    """
    problems = folder / "problems.jsonl"
    config = load_config("tiny", {**FIXED, **options, "data.train": str(problems)})
    lines = (
        json.dumps({"id": str(n), "problem": "1", "answer": ANSWER}) for n in range(config.train.questions_per_step)
    )
    problems.write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = _widened(config, folder, sizes)
    loop = Build(config, folder / "run", None, KeptVerdicts(), Console(quiet=True), stack, early_workers=False).loop()
    step = loop.step
    policy = step.policy
    # Nothing ends a completion but its length.
    policy.tokenizer.eos_token = None
    policy.model.generation_config.eos_token_id = None
    engine = engine_builder(config.rollout.engine)(policy, config.rollout.max_concurrent_tokens)
    vocabulary = policy.model.get_input_embeddings().weight.shape[0]
    asked = _with_prompts(step.questions.at(1, demonstrated=False), config.data.max_prompt_length, vocabulary)
    questions = Questions([ProblemSet(asked, 1.0)], len(asked), config.train.seed)
    return replace(step, engine=engine, questions=questions, scorer=EveryOther(step.scorer)), loop.stages[0]


def _with_prompts(problems: Sequence[PreparedProblem], tokens: int, vocabulary: int) -> list[PreparedProblem]:
    """The problems with prompts of so many random tokens."""
    draw = random.Random(0)
    return [replace(each, prompt_ids=tuple(draw.randrange(vocabulary) for _ in range(tokens))) for each in problems]


def _widened(config: Config, folder: Path, sizes: Mapping[str, int]) -> Config:
    """With the made-up model, if one is asked for, and with positions for the longest row."""
    model = config.model
    architecture = find_architecture(model_source(model.name_or_path))[0].config
    changes: dict[str, Any] = {}
    if sizes:
        _make_up(architecture, sizes, folder / "model")
        changes["name_or_path"] = str(folder / "model")
    longest = config.data.max_prompt_length + config.rollout.max_completion_length
    own = model.max_position_embeddings or transformers_api.max_positions(architecture)
    if own is not None and own < longest:
        changes["max_position_embeddings"] = longest
    return config.model_copy(update={"model": model.model_copy(update=changes)})


def _make_up(architecture: PreTrainedConfig, sizes: Mapping[str, int], folder: Path) -> None:
    """Write a model of this architecture, but for its sizes, with random weights and the embedded tokenizer."""
    text = transformers_api.text_config(architecture)
    tokenizer = AutoTokenizer.from_pretrained(MODEL_PATH)
    text.vocab_size = sizes.get("vocabulary", text.vocab_size)
    text.bos_token_id, text.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    text.pad_token_id = tokenizer.pad_token_id
    if layers := sizes.get("layers"):
        if kinds := getattr(text, "layer_types", None):
            text.layer_types = [kinds[layer % len(kinds)] for layer in range(layers)]
        text.num_hidden_layers = layers
    AutoModelForCausalLM.from_config(architecture).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
