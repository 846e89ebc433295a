"""From a configuration to a run: claim the folder, build and check every piece, train, say how it ended."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from unigrad.config import Config
from unigrad.data import prompt_template
from unigrad.data.tiny import model_source
from unigrad.errors import ConfigError, RewardError, UserCodeError, one_line
from unigrad.live import LiveConsole
from unigrad.machine import launched, limit_threads, threads_in_words
from unigrad.plan import plan_lines
from unigrad.policy import Policy, find_architecture
from unigrad.policy.loading import choose_device
from unigrad.policy.transformers_api import hide_progress_bars
from unigrad.runs.checkpoints import set_aside
from unigrad.runs.folder import (
    VERDICTS_FILE,
    checkpoint,
    final_model,
    is_started,
    read_environment,
    write_examples,
    write_inputs,
    write_origin,
)
from unigrad.runs.metrics import RunMetrics
from unigrad.runs.records import Records
from unigrad.runs.weights_and_biases import WandbRun, check_installed
from unigrad.train.build import Build, check_lengths, checked_objectives
from unigrad.train.claim import Claim, claimed, fresh, last_good, resume_point, without
from unigrad.train.loop import Loop
from unigrad.train.model_card import accuracy_in_words
from unigrad.train.progress import Display
from unigrad.train.push import push
from unigrad.verify.kept import KeptVerdicts
from unigrad.versions import changed
from unigrad.world import World, is_of_another_rank, joined, speaks_first


@dataclass(frozen=True, slots=True)
class Trained:
    """A policy after its run, or after as much of it as there was until `stopped_by`, a signal, stopped it."""

    policy: Policy
    stopped_by: int | None


def run(config: Config, *, resume: Path | None = None, dry_run: bool = False) -> int:
    """`train`, for a command line: what goes wrong after the start is said. Returns the exit code (see `cli.main`).

    Raises ConfigError as `train` does.
    """
    folder = resume or Path(config.output_dir)
    try:
        trained = train(config, LiveConsole(), resume=resume, dry_run=dry_run)
    except (OSError, FloatingPointError, RewardError) as error:
        return _failed(one_line(error), folder)
    except RuntimeError as error:
        if not is_of_another_rank(error):
            raise
        waited = f"ranks.timeout_seconds = {config.ranks.timeout_seconds:g}"
        return _failed(f"another rank is gone, or was silent for longer than {waited}", folder)
    return 128 + trained.stopped_by if trained and trained.stopped_by else 0


def _failed(why: str, folder: Path) -> int:
    """The exit code, once one of the ranks has said it."""
    if speaks_first():
        LiveConsole().print(f"unigrad: error: {why}; {last_good(folder)}", markup=False, soft_wrap=True)
    return 1


def train(config: Config, console: Console, *, resume: Path | None = None, dry_run: bool = False) -> Trained | None:
    """Train as `config` says, or go on with the run at `resume`. Returns None where a `dry_run` found nothing wrong.

    Where torchrun starts the ranks again, they go on with the run that they had begun. Raises ConfigError on anything
    that is wrong with the input, before the run's folder is touched; whatever ends the run later is raised too, OSError
    (a disk that is full), FloatingPointError, RewardError and UserCodeError.
    """
    # Its bars over the shards of each checkpoint would tear ours apart.
    hide_progress_bars()
    folder = resume or Path(config.output_dir)
    with joined(lambda: _device(config), config.ranks.timeout_seconds) as world:
        return _run(config, folder, resume is not None, dry_run, world, console)


def _device(config: Config) -> torch.device:
    try:
        return choose_device(config.model.device)
    except ValueError as error:
        raise ConfigError(one_line(error)) from error


def _run(config: Config, folder: Path, resume: bool, dry_run: bool, world: World, console: Console) -> Trained | None:
    if not world.is_first:
        console.quiet = True
        logging.getLogger("unigrad").setLevel(logging.ERROR)
    if launched().restarts and not resume:
        resume = world.from_first(lambda: is_started(folder))
    with ExitStack() as stack:
        if resume and not dry_run and world.is_first:
            stack.enter_context(claimed(folder))
        claim = world.from_first(
            lambda: resume_point(config, folder) if resume else fresh(config, folder, dry_run=dry_run)
        )
        resumed = claim.checkpoint
        for line in claim.notes:
            console.print(line, markup=False, soft_wrap=True)
        if config.train.wandb:
            check_installed()
        limit_threads()
        kept = KeptVerdicts()
        try:
            if resume:
                kept.read(folder / VERDICTS_FILE)
            loop = Build(config, folder, resumed, kept, console, stack, world).loop()
            moved = changed(read_environment(resumed)) if resumed else []
        except (ValueError, OSError) as error:
            advice = f"; {without(folder, resumed)}" if resumed and str(resumed) in str(error) else ""
            raise ConfigError(one_line(error) + advice) from error
        for line in _summary(config, loop):
            console.print(line, markup=False, soft_wrap=True)
        for line in moved:
            console.print(f"{line}: the run may go on with other roundings", markup=False, soft_wrap=True)
        if dry_run:
            console.print("dry run: everything checks; nothing was written", markup=False)
            return None
        if not resume:
            world.from_first(lambda: _claim_fresh(config, folder, stack))
        try:
            return _train(config, loop, claim, kept, stack, console)
        except (OSError, FloatingPointError, RewardError):
            raise
        except Exception as error:
            # It is shown with its traceback; this is to be the last line of that.
            shown = error.__cause__ if isinstance(error, UserCodeError) and error.__cause__ else error
            shown.add_note(last_good(folder))
            raise


def _claim_fresh(config: Config, folder: Path, stack: ExitStack) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    stack.enter_context(claimed(folder))
    # Another process may have begun while the pieces of this one were built.
    fresh(config, folder)


def show_plan(config: Config) -> int:
    """Print what the run would be and need, without a network and with nothing built or written. Returns exit code 0.

    Raises ConfigError on what is wrong with the configuration, as far as that shows without model and data.
    """
    try:
        stages = checked_objectives(config)
        prompt_template(config.data.prompt_template)
        skeleton, found = find_architecture(
            model_source(config.model.name_or_path),
            rope_theta=config.model.rope_theta,
            max_position_embeddings=config.model.max_position_embeddings,
        )
    except (ValueError, OSError) as error:
        raise ConfigError(one_line(error)) from error
    check_lengths(config, skeleton)
    console = Console(highlight=False)
    for line in plan_lines(config, stages, skeleton, found):
        console.print(line, markup=False, soft_wrap=True)
    return 0


def _train(config: Config, loop: Loop, claim: Claim, kept: KeptVerdicts, stack: ExitStack, console: Console) -> Trained:
    folder, last_step = loop.run, claim.step
    records = _records(config, loop, claim, kept) if loop.world.is_first else None
    if records is not None:
        stack.callback(records.close)
    display = stack.enter_context(Display(console, config.train.max_steps, last_step + 1))
    stopped_by = loop.go(records, display)
    if stopped_by is not None:
        display.say(f"stopped and saved; go on with: unigrad train --resume {folder}")
    elif loop.world.is_first:
        measured = accuracy_in_words(config, folder)
        display.say(
            f"done: the trained model is in {final_model(folder)}{_best(config, folder)}"
            + (f"; {measured}" if measured else "")
        )
        if config.train.push_to_hub:
            display.say(push(final_model(folder), config.train.push_to_hub))
    return Trained(loop.step.policy, stopped_by)


def _records(config: Config, loop: Loop, claim: Claim, kept: KeptVerdicts) -> Records:
    """What the run writes into its folder, which is ready from now on."""
    folder = loop.run
    wandb = WandbRun(folder, config) if config.train.wandb else None
    write_origin(folder, config)
    write_inputs(folder, loop.inputs)
    write_examples(folder, loop.examples)
    set_aside(folder, after=claim.step)
    kept.write_to(folder / VERDICTS_FILE)
    first_step = claim.step + 1 if claim.step else 0
    return Records(folder, first_step, config.train.tensorboard, wandb)


def _best(config: Config, folder: Path) -> str:
    """Where the best checkpoint is, in words; nothing where none is kept."""
    measured = RunMetrics(folder)
    if not config.train.keep_best or (step := measured.best_step) is None:
        return ""
    accuracy = measured.evaluations[step].accuracy
    return f"; the best on the held-out problems, {accuracy:.1%}, is in {checkpoint(folder, step)}"


def _summary(config: Config, loop: Loop) -> list[str]:
    """The derived totals, once."""
    train = config.train
    rollouts = config.rollout.num_generations if any(stage.samples for stage in loop.stages) else 0
    questions = train.questions_per_step
    stages = [" + ".join(map(str, stage.training(rollouts if stage.samples else 0))) for stage in loop.stages]
    updates = train.num_iterations * questions // (train.questions_per_update or questions)
    parameters = sum(p.numel() for p in loop.step.policy.model.parameters())
    adapter = loop.step.policy.adapter
    trained = "" if adapter is None else f" (of which {adapter.parameters:,}, the adapter's, are trained)"
    epochs = train.max_steps * questions / loop.step.questions.an_epoch
    return [
        f"model: {config.model.name_or_path}, {parameters / 1e6:,.1f}M parameters{trained} "
        f"on {loop.step.policy.device}, {threads_in_words()}{_ranks(loop)}",
        f"method: {config.method.name}, {', then '.join(stages)}",
        f"a step: {questions} questions, {questions * rollouts} completions, {updates} update{'s' * (updates > 1)}; "
        f"{train.max_steps} steps: {train.max_steps * questions:,} questions, {epochs:.1f} epochs",
    ]


def _ranks(loop: Loop) -> str:
    """How many train together, in words; nothing of one."""
    size, questions = loop.world.size, loop.step.config.train.questions_per_step
    if size == 1:
        return ""
    words = f"; {size} ranks, each with {'a part' if loop.step.policy.is_sharded else 'all'} of the weights"
    if size > questions and any(stage.samples for stage in loop.stages):
        words += f"; WARNING: {size - questions} of them sample nothing, as a step has {questions} questions"
    return words
