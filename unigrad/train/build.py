"""Every piece of a run, built and checked; what is cheap to check comes before the model is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from transformers import PreTrainedModel

from unigrad.config import Config, SourceConfig
from unigrad.data import (
    PreparedProblem,
    PromptTemplate,
    Turn,
    prompt_template,
    turn_of,
)
from unigrad.data.tiny import model_source
from unigrad.errors import ConfigError, shortened
from unigrad.hybrid import Objective, Term
from unigrad.plan import longest_row
from unigrad.policy import END, Policy, load_policy, transformers_api
from unigrad.policy.adapter import check_installed
from unigrad.policy.products import emulates_bfloat16
from unigrad.policy.sharding import shard_, sharded
from unigrad.rollout import Engine, Sampling
from unigrad.rollout.engines import chosen_name, engine_of, is_exact
from unigrad.rollout.sharded_engine import ShardedEngine
from unigrad.runs.checkpoints import Position
from unigrad.runs.folder import Example, rollouts_files
from unigrad.runs.rollouts import questions
from unigrad.seeds import held_out_seed
from unigrad.train.annotate import Annotator
from unigrad.train.checkpoint import load_state
from unigrad.train.examples import example, example_lines
from unigrad.train.held_out import HeldOut
from unigrad.train.loop import Loop
from unigrad.train.objectives import objectives
from unigrad.train.optimizer import build_optimizer, check_optimizer
from unigrad.train.pieces import TokenTexts
from unigrad.train.preparation import Preparation, fitted_to
from unigrad.train.problem_sets import (
    check_inputs,
    fingerprint,
    held_out_notes,
    held_out_problems,
    label,
    training_problems,
)
from unigrad.train.questions import ProblemSet, Questions
from unigrad.train.scorer import build_scorer
from unigrad.train.step import Step
from unigrad.types import Problem, Scorer, TrainerState
from unigrad.verify.kept import KeptVerdicts
from unigrad.world import ALONE, World


@dataclass(frozen=True, slots=True)
class Build:
    """A run to be built: what it is, where, and from which checkpoint it goes on.

    kept: the verdicts that the run knows already. stack: closes what the run opens. world: the ranks that train.
    early_workers: whether what verifies completions gets ready at once; it would disturb a measurement.
    """

    config: Config
    folder: Path
    resumed: Path | None
    kept: KeptVerdicts
    console: Console
    stack: ExitStack
    world: World = ALONE
    early_workers: bool = True

    def loop(self) -> Loop:
        """Raises ConfigError, ValueError or OSError on whatever is wrong with the configuration, the data or the
        model."""
        config = self.config
        stages = checked_objectives(config)
        template = prompt_template(config.data.prompt_template)
        build_engine = engine_of(config.rollout)
        check_installed(config.model.lora)
        check_optimizer(config.train)
        state = TrainerState(max_steps=config.train.max_steps)
        sampling = [stage for stage in stages if stage.samples]
        measured = config.data.held_out_sets if config.train.eval_steps else ()
        scorer = self._scorer(state, used=bool(sampling or measured))
        train_sets = [(each, training_problems(each, config, self._say)) for each in config.data.train_sets]
        held_out = [(each.name, held_out_problems(each, config)) for each in measured]
        inputs = self._inputs(train_sets, [problem for _, problems in held_out for problem in problems])
        for line in held_out_notes(config, [each for _, problems in train_sets for each in problems], dict(held_out)):
            self._say(line)

        policy = self._policy(inputs)
        check_lengths(config, policy.model)
        prepare = self._preparation(template, policy, scorer)
        limit = config.max_demonstration_length
        sets = [ProblemSet(prepare(problems, label(each, config), limit), each.weight) for each, problems in train_sets]
        self._check_demonstrations(stages, sets)
        self._check_prompts(sets)
        examples = self._examples([label(each, config) for each, _ in train_sets], sets, policy)
        evaluated = {
            name: prepare(problems, "held-out" if len(held_out) == 1 else f"held-out {name}", None)
            for name, problems in held_out
        }
        engine = self._opened(build_engine(policy)) if sampling or held_out else None
        own_old_policy = engine is not None and self._own_old_policy(sampling, engine, policy)
        if any("values" in stage.needs for stage in stages):
            policy.add_value_head()
        policy, engine = self._sharded(policy, engine)
        optimizer = build_optimizer(policy.parameters(), config.train)
        step = Step(
            config=config,
            questions=Questions(sets, config.train.questions_per_step, config.train.seed),
            policy=policy,
            engine=engine,
            scorer=scorer,
            annotate=self._annotator(stages, policy, exact=not own_old_policy),
            own_old_policy=own_old_policy,
            optimizer=optimizer,
            world=self.world,
            state=state,
        )
        return Loop(
            run=self.folder,
            step=step,
            stages=stages,
            start=self._start(stages, optimizer, policy),
            inputs=inputs,
            examples=examples,
            held_out=self._held_out(evaluated, engine, scorer) if evaluated and engine else None,
            texts=TokenTexts(policy.tokenizer) if config.train.save_token_logprobs else None,
            kept=self.kept,
        )

    def _opened(self, engine: Engine) -> Engine:
        """An engine, closed in the end where it is a process of its own."""
        if close := getattr(engine, "close", None):
            self.stack.callback(close)
        return engine

    def _say(self, line: str) -> None:
        self.console.print(line, markup=False, soft_wrap=True)

    def _policy(self, inputs: dict[str, str]) -> Policy:
        """The policy that is trained. With an adapter it stands on the model that the run began with, whose fingerprint
        is added to `inputs`; else a run that goes on has all of it in its checkpoint."""
        model = self.config.model
        if model.lora.r is None:
            return _load(model_source(model.name_or_path) if self.resumed is None else str(self.resumed), self.config)
        policy = _load(model_source(model.name_or_path), self.config)
        adapter = policy.add_adapter(model.lora, self.config.train.seed)
        base = {"model.name_or_path": adapter.base_fingerprint}
        if self.resumed is not None:
            check_inputs(self.folder, base, {"model.name_or_path": model.name_or_path}, "weights")
        inputs |= base
        return policy

    def _sharded(self, policy: Policy, engine: Engine | None) -> tuple[Policy, Engine | None]:
        """What is trained and what samples from it: in parts over the ranks, where there are several."""
        ranks = self.config.ranks
        if self.world.size == 1 or not ranks.sharded:
            return policy, engine
        if self.config.train.optimizer == "adamw_8bit":
            raise ConfigError(
                "train.optimizer = 'adamw_8bit': its moments are not kept in parts; with several ranks also set "
                "ranks.sharded false, or take adamw"
            )
        parts = sharded(policy, self.world, cpu_offload=ranks.cpu_offload)
        return parts, engine and ShardedEngine(engine, parts)

    def _start(self, stages: Sequence[Objective], optimizer: torch.optim.Optimizer, policy: Policy) -> Position:
        """Where the run goes on from, optimizer and policy as they were there."""
        if self.resumed is None:
            return Position()
        start = load_state(self.resumed, optimizer, policy)
        if start.stage >= len(stages):
            raise ValueError(
                f"{self.resumed} is of stage {start.stage} of a method that has {len(stages)}, counted from 0"
            )
        return start

    def _annotator(self, stages: Sequence[Objective], policy: Policy, *, exact: bool) -> Annotator | None:
        """What fills in the statistics that these algorithms need besides the engine's; None where there are none.
        exact: no update takes log π_old from its own forward anyway."""
        config = self.config
        needs = frozenset[str]().union(*(stage.needs for stage in stages))
        reference = None
        if "reference_logp" in needs and policy.adapter is not None:
            # Without its adapter it is the model that the run began with.
            reference = policy
        elif "reference_logp" in needs:
            reference = _load(model_source(config.model.name_or_path), config)
            reference.requires_grad_(False)
            if policy.is_sharded:
                shard_(reference, self.world, cpu_offload=config.ranks.cpu_offload)
        own_logprobs = exact and "engine_logp" in needs
        if reference is None and not own_logprobs and policy.value_head is None:
            return None
        return Annotator(policy, reference, own_logprobs, config.train.tokens_per_micro_batch, self.world)

    def _examples(self, names: Sequence[str], sets: Sequence[ProblemSet], policy: Policy) -> list[Example]:
        """One of each set, said as well."""
        found = [example(name, each.problems, policy.tokenizer) for name, each in zip(names, sets, strict=True)]
        for line in (line for each in found for line in example_lines(each)):
            self._say(line)
        return found

    def _scorer(self, state: TrainerState, *, used: bool) -> Scorer:
        early_workers = self.early_workers and used
        return build_scorer(self.config, state, self.kept, self.stack, self._say, early_workers=early_workers)

    def _preparation(self, template: PromptTemplate, policy: Policy, scorer: Scorer) -> Preparation:
        """Of problems for this policy, with the template as it is fitted to its tokenizer."""
        data = self.config.data
        used, notes = fitted_to(template, data, policy.tokenizer)
        for line in notes:
            self._say(line)
        return Preparation(policy, used, self._turn(used, policy), scorer, data.max_prompt_length, self._say)

    def _turn(self, template: PromptTemplate, policy: Policy) -> Turn:
        """What the policy's completions begin and end with."""
        turn = turn_of(template, policy.tokenizer, self.config.data.end_of_turn)
        if turn.note:
            self._say(turn.note)
        if turn.end_id is not None:
            policy.check_embedded([turn.end_id], "data.end_of_turn" if self.config.data.end_of_turn else END)
            # The engine reads it there, and so does whoever loads the trained model.
            policy.add_end(turn.end_id)
        return turn

    def _held_out(self, sets: Mapping[str, Sequence[PreparedProblem]], engine: Engine, scorer: Scorer) -> HeldOut:
        return HeldOut(
            sets=sets,
            engine=engine,
            scorer=scorer,
            sampling=Sampling.of_held_out(self.config),
            seed=held_out_seed(self.config.held_out_seed),
            world=self.world,
        )

    def _inputs(
        self, train_sets: Sequence[tuple[SourceConfig, Sequence[Problem]]], evaluated: Sequence[Problem]
    ) -> dict[str, str]:
        """The fingerprints by key. Raises ConfigError where the run goes on and began with others."""
        data = self.config.data
        inputs = {"data.train": fingerprint(problem for _, problems in train_sets for problem in problems)}
        if evaluated:
            inputs["data.eval"] = fingerprint(evaluated)
        if len({*self.world.gather([tuple(inputs.values())])}) > 1:
            raise ConfigError("data.train or data.eval holds other problems for one rank than for another")
        if self.resumed is not None:
            paths = {
                "data.train": ", ".join(each.path for each in data.train_sets),
                "data.eval": ", ".join(each.path for each in data.held_out_sets),
            }
            check_inputs(self.folder, inputs, paths)
        return inputs

    def _own_old_policy(self, stages: Sequence[Objective], engine: Engine, policy: Policy) -> bool:
        """Whether log π_old is the trainer's own in the stages, which sample; says so, and warns of how they sample."""
        rollout = self.config.rollout
        if stages and Sampling.of_training(rollout).is_truncated:
            self._say(
                f"WARNING: with rollout.top_p = {rollout.top_p:g} and top_k = {rollout.top_k} a rollout never holds "
                "what the sampler cuts off (policy/cut_mass), and the policy is trained as if it could, a known way to "
                "collapse; 1 and 0 cut nothing off"
            )
        if rollout.decode_dtype == "bfloat16" and emulates_bfloat16(policy.device):
            self._say(
                "WARNING: rollout.decode_dtype = bfloat16 is slower than float32 on this processor, which has no "
                "instructions for it; null decodes as the policy computes"
            )
        terms = [term for stage in stages for term in stage.terms]
        compares = any(term.algorithm.compares_with_old for term in terms)
        own = compares and not is_exact(engine, policy)
        if own:
            name, dtype = chosen_name(rollout.engine, engine), policy.computes_in
            self._say(
                f"π_old: the trainer's own log-probs, as those of the engine {name!r} are not exact beside a trainer "
                f"in {dtype}: policy/rollout_mismatch_mean says how far off{_correction(terms)}"
            )
        return own

    def _check_demonstrations(self, stages: Sequence[Objective], sets: Sequence[ProblemSet]) -> None:
        shown = any(item.demonstration is not None for each in sets for item in each.problems)
        where = ", ".join(each.path for each in self.config.data.train_sets)
        if not shown and not all(stage.samples for stage in stages):
            raise ConfigError(
                f"method.name = {self.config.method.name!r} trains on demonstrations, and {where} holds none "
                "(column `solution`); use grpo"
            )
        terms = [term for stage in stages for term in stage.training(self.config.rollout.num_generations)]
        if not shown and any(term.members != "rollouts" or term.compared != "rollouts" for term in terms):
            self._say(
                f"WARNING: {where} holds no demonstration that fits (column `solution`), so "
                f"{self.config.method.name} has none to train on and trains on its rollouts alone"
            )

    def _check_prompts(self, sets: Sequence[ProblemSet]) -> None:
        """Raises ConfigError where the run goes on and no longer asks its first question as it did: the template, the
        tokenizer, or what a version makes of them has changed."""
        first = None if self.resumed is None else next(iter(rollouts_files(self.folder).values()), None)
        asked = None if first is None else next(questions(first), None)
        if asked is None:
            return
        before = asked.lines[0].prompt
        now = next((each.prompt for made in sets for each in made.problems if each.problem.id == asked.id), before)
        if now != before:
            raise ConfigError(
                f"--resume {self.folder}: the prompt of problem {asked.id} was {shortened(before, 200)!r} and is now "
                f"{shortened(now, 200)!r}; a resumed run keeps its prompts (data.prompt_template, the tokenizer)"
            )


def _correction(terms: Sequence[Term]) -> str:
    """How the rollouts of these terms are weighed for an engine that is not exact, in words; empty where they are
    not."""
    caps = {term.algorithm.name: term.algorithm.defaults().get("engine_cap") for term in terms}
    named = [f"at most {cap:g} in {name}" for name, cap in caps.items() if cap is not None]
    return f", and weights times π_old/π_engine ({', '.join(named)}) correct for it" if named else ""


def checked_objectives(config: Config) -> list[Objective]:
    """The stages of the run. Raises ConfigError or ValueError on what does not fit together."""
    stages = objectives(config)
    for stage in stages:
        first = stage.terms[0]
        alone = stage.samples and config.rollout.num_generations == 1 and first.compared == "rollouts"
        if alone and first.algorithm.is_relative:
            raise ConfigError(
                f"rollout.num_generations = 1: {first.algorithm.name} compares the rollouts of a question, "
                "so one alone never trains; use at least 2, or --algorithm.name reinforce"
            )
    return stages


def check_lengths(config: Config, model: PreTrainedModel) -> None:
    """Raises ConfigError where the longest row does not fit the model, of which a skeleton is enough."""
    longest, positions = longest_row(config), transformers_api.room(model)
    if positions is not None and longest > positions:
        why = ""
        if positions == transformers_api.one_rope(model.config):
            why = ": past these its rotary embedding goes by the longest row of a batch, and so would every log-prob"
        raise ConfigError(
            f"data.max_prompt_length and the longest completion or demonstration make {longest} tokens; "
            f"{config.model.name_or_path} takes {positions}{why}"
        )


def _load(source: str, config: Config) -> Policy:
    return load_policy(
        source,
        device=config.model.device,
        dtype=config.model.dtype,
        attn_implementation=config.model.attn_implementation,
        gradient_checkpointing=config.model.gradient_checkpointing,
        rope_theta=config.model.rope_theta,
        max_position_embeddings=config.model.max_position_embeddings,
    )
