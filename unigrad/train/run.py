"""From a configuration to a run: claim the folder, build and check every piece, train, say how it ended."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from unigrad.config import Config
from unigrad.data import prompt_template
from unigrad.data.tiny import model_source
from unigrad.errors import ConfigError, RewardError, UserCodeError, one_line
from unigrad.live import LiveConsole
from unigrad.machine import limit_threads, threads_in_words
from unigrad.plan import plan_lines
from unigrad.policy import find_architecture
from unigrad.policy.transformers_api import hide_progress_bars
from unigrad.runs.checkpoints import set_aside
from unigrad.runs.folder import (
    VERDICTS_FILE,
    checkpoint,
    final_model,
    read_environment,
    write_inputs,
    write_origin,
)
from unigrad.runs.metrics import RunMetrics
from unigrad.runs.records import Records
from unigrad.runs.weights_and_biases import WandbRun, check_installed
from unigrad.train.build import Build, check_lengths, checked_objectives
from unigrad.train.claim import Claim, claimed, fresh, last_good, resume_point, without
from unigrad.train.loop import Loop
from unigrad.train.progress import Display
from unigrad.verify.kept import KeptVerdicts
from unigrad.versions import changed


def run(config: Config, *, resume: Path | None = None, dry_run: bool = False) -> int:
    """Train as `config` says, or go on with the run at `resume`. Returns the exit code (see `cli.main`).

    Raises ConfigError on anything that is wrong with the input, before the run's folder is touched.
    """
    console = LiveConsole()
    # Its bars over the shards of each checkpoint would tear ours apart.
    hide_progress_bars()
    folder = resume or Path(config.output_dir)
    try:
        return _run(config, folder, resume is not None, dry_run, console)
    # Also what the records raise as they are closed: a disk that is full is so still.
    except (OSError, FloatingPointError, RewardError) as error:
        console.print(f"unigrad: error: {one_line(error)}; {last_good(folder)}", markup=False, soft_wrap=True)
        return 1


def _run(config: Config, folder: Path, resume: bool, dry_run: bool, console: Console) -> int:
    with ExitStack() as stack:
        if resume:
            stack.enter_context(claimed(folder))
        claim = resume_point(config, folder) if resume else fresh(config, folder)
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
            loop = Build(config, folder, resumed, kept, console, stack).loop()
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
            return 0
        if not resume:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(claimed(folder))
            # Another process may have begun while the pieces of this one were built.
            fresh(config, folder)
        try:
            return _train(config, loop, claim, kept, stack, console)
        except (OSError, FloatingPointError, RewardError):
            raise
        except Exception as error:
            # It is shown with its traceback; this is to be the last line of that.
            shown = error.__cause__ if isinstance(error, UserCodeError) and error.__cause__ else error
            shown.add_note(last_good(folder))
            raise


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


def _train(config: Config, loop: Loop, claim: Claim, kept: KeptVerdicts, stack: ExitStack, console: Console) -> int:
    folder, last_step = loop.run, claim.step
    wandb = WandbRun(folder, config) if config.train.wandb else None
    write_origin(folder, config)
    write_inputs(folder, loop.inputs)
    set_aside(folder, after=last_step)
    kept.write_to(folder / VERDICTS_FILE)
    first_step = last_step + 1 if last_step else 0
    records = Records(folder, first_step, config.train.tensorboard, wandb)
    stack.callback(records.close)
    display = stack.enter_context(Display(console, config.train.max_steps, last_step + 1))
    stopped_by = loop.go(records, display)
    if stopped_by is None:
        display.say(f"done: the trained model is in {final_model(folder)}{_best(config, folder)}")
        return 0
    display.say(f"stopped and saved; go on with: unigrad train --resume {folder}")
    return 128 + stopped_by


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
        f"on {loop.step.policy.device}, {threads_in_words()}",
        f"method: {config.method.name}, {', then '.join(stages)}",
        f"a step: {questions} questions, {questions * rollouts} completions, {updates} update{'s' * (updates > 1)}; "
        f"{train.max_steps} steps: {train.max_steps * questions:,} questions, {epochs:.1f} epochs",
    ]
