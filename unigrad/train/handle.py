"""A run in one's hands: its numbers, its rollouts, and the policy that it trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unigrad.config import Config, load_config
from unigrad.errors import ConfigError
from unigrad.runs.folder import CONFIG_FILE, final_model, is_finished, is_started, rollouts_file, rollouts_files
from unigrad.runs.metrics import RunMetrics
from unigrad.runs.rollouts import Question, questions

if TYPE_CHECKING:
    from unigrad.policy import Policy
    from unigrad.rollout import Engine


class Run:
    """A run's folder, and what is in it; of a run that goes on elsewhere, as it was when it was first asked for.

    folder: where it lies. stopped_by: the signal that stopped it, 2 for Ctrl-C; None where it came to its end.
    """

    def __init__(self, folder: str | Path, policy: Policy | None = None, stopped_by: int | None = None) -> None:
        """Of a folder alone the policy is loaded when it is asked for. Raises ConfigError where no run is there."""
        self.folder = Path(folder)
        self.stopped_by = stopped_by
        if not is_started(self.folder):
            raise ConfigError(f"{folder}: no run there (it has no {CONFIG_FILE})")
        self._trained = policy

    def __repr__(self) -> str:
        accuracy = "" if self.accuracy is None else f", held-out accuracy {self.accuracy:.1%}"
        return f"Run({str(self.folder)!r}: {self.config.method.name}, {self._measured.steps} steps{accuracy})"

    @cached_property
    def config(self) -> Config:
        """The effective configuration."""
        return load_config(str(self.folder / CONFIG_FILE))

    @property
    def is_finished(self) -> bool:
        return is_finished(self.folder)

    @property
    def final(self) -> Path:
        """The folder of the trained model, which transformers and vLLM load as it is, once the run is finished."""
        return final_model(self.folder)

    @cached_property
    def _measured(self) -> RunMetrics:
        return RunMetrics(self.folder)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """metrics.jsonl: the numbers of each step by their names; step 0 is before training."""
        return self._measured.lines

    def frame(self) -> Any:
        """The same as a pandas data frame, a row a step, whose number is its index."""
        from datasets import Dataset

        names = dict.fromkeys(name for line in self.metrics for name in line)
        columns = {name: [line.get(name) for line in self.metrics] for name in names}
        return Dataset.from_dict(columns).to_pandas().set_index("step")

    @property
    def accuracy(self) -> float | None:
        """Of the last evaluation on the held-out problems, a share; of several sets the mean. None: there was none."""
        return self._measured.accuracy if self._measured.evaluations else None

    def rollouts(self, step: int) -> list[Question]:
        """What was sampled at that step, question by question, with verdicts, rewards and the gate's decision.

        Raises ConfigError where the step has no file.
        """
        file = rollouts_file(self.folder, step)
        if not file.is_file():
            there = list(rollouts_files(self.folder))
            known = f"there are {there[0]} to {there[-1]}" if there else "there are none yet"
            raise ConfigError(f"{self.folder} has no rollouts of step {step}; {known}")
        return list(questions(file))

    @cached_property
    def policy(self) -> Policy:
        """The trained policy, with its `model` and `tokenizer`: as training left it, else loaded from `final`."""
        if self._trained is not None:
            return self._trained
        if not self.is_finished:
            raise ConfigError(
                f"{self.folder} is not finished; go on with unigrad.train(resume={str(self.folder)!r}), or load one of "
                "its checkpoints"
            )
        from unigrad.policy import load_policy

        return load_policy(str(self.final), device=self.config.model.device, dtype=self.config.model.dtype)

    @cached_property
    def _engine(self) -> Engine:
        from unigrad.rollout.engines import engine_of

        return engine_of(self.config.rollout)(self.policy)

    def sample(
        self,
        problems: str | Sequence[str],
        n: int = 1,
        *,
        temperature: float | None = None,
        max_completion_length: int | None = None,
        seed: int = 0,
    ) -> list[list[str]]:
        """n completions of each problem, framed by the run's prompt template and sampled as its evaluations are.

        temperature: 0 is greedy; None: `eval.temperature`. max_completion_length: in tokens; None: the evaluations'.
        Raises ValueError where a problem does not fit the model.
        """
        from unigrad.data import prompt_template, turn_of
        from unigrad.evaluate.completing import complete
        from unigrad.rollout import Sampling
        from unigrad.train.preparation import fitted_to

        asked = [problems] if isinstance(problems, str) else list(problems)
        sampling = Sampling.of_held_out(self.config)
        sampling = replace(
            sampling,
            num_generations=n,
            temperature=sampling.temperature if temperature is None else temperature,
            max_completion_length=max_completion_length or sampling.max_completion_length,
        )
        data, tokenizer = self.config.data, self.policy.tokenizer
        template, _ = fitted_to(prompt_template(data.prompt_template), data, tokenizer)
        turn = turn_of(template, tokenizer, data.end_of_turn)
        return complete(self.policy, self._engine, asked, template, turn, sampling, seed)
