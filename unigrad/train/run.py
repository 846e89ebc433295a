"""From a configuration to a run: build and check every piece, claim the folder, train, say how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from unigrad.config import (
    CONFIG_FILE,
    RESUMABLE_CHANGES,
    Config,
    ConfigError,
    SourceConfig,
    changed_keys,
    load_config,
    one_line,
)
from unigrad.data import (
    PreparedProblem,
    load_problems,
    prepare_problems,
    prompt_template,
    share,
    turn_of,
)
from unigrad.data.tiny import MODEL_PATH, tiny_problems
from unigrad.evaluate import RewardFunctionScorer, VerifierScorer
from unigrad.evaluate.suites import TINY
from unigrad.files import replace_text
from unigrad.hybrid import Objective, method
from unigrad.policy import Policy, find_architecture, load_policy
from unigrad.policy.transformers_api import hide_progress_bars, max_positions
from unigrad.rollout import TorchEngine
from unigrad.train import checkpoint
from unigrad.train.annotate import Annotator
from unigrad.train.memory import longest_row
from unigrad.train.objectives import objectives
from unigrad.train.optimizer import build_optimizer
from unigrad.train.pieces import TokenTexts
from unigrad.train.plan import plan_lines
from unigrad.train.progress import Display
from unigrad.train.records import Records
from unigrad.train.trainer import ProblemSet, Trainer
from unigrad.train.weights_and_biases import WandbRun, check_installed
from unigrad.types import Problem, Scorer
from unigrad.verify import Verifier
from unigrad.verify.kept import VERDICTS_FILE, KeptVerdicts
from unigrad.verify.rewards import load_reward_function
from unigrad.versions import changed, read_environment, write_environment


def run(config: Config, *, resume: Path | None = None, dry_run: bool = False) -> int:
    """Train as `config` says, or go on with the run at `resume`. Returns the exit code (see `cli.main`).

    Raises ConfigError on anything that is wrong with the input, before the run's folder is touched.
    """
    console = Console(highlight=False)
    # Its bars over the shards of each checkpoint would tear ours apart.
    hide_progress_bars()
    folder = resume or Path(config.output_dir)
    last_step, resumed = _resume_point(config, folder) if resume else _fresh(config, folder)
    if config.train.wandb:
        check_installed()
    kept = KeptVerdicts()
    with ExitStack() as stack:
        try:
            if resume:
                kept.read(folder / VERDICTS_FILE)
            trainer = _build(config, folder, resumed, kept, console, stack)
            moved = changed(read_environment(resumed)) if resumed else []
        except (ValueError, OSError) as error:
            raise ConfigError(one_line(error)) from error
        for line in _plan(config, trainer):
            console.print(line, markup=False, soft_wrap=True)
        for line in moved:
            console.print(f"{line}: the run may go on with other roundings", markup=False, soft_wrap=True)
        if dry_run:
            console.print("dry run: everything checks; nothing was written", markup=False)
            return 0
        try:
            return _train(config, trainer, last_step, kept, stack, console)
        except (OSError, FloatingPointError) as error:
            if isinstance(error, OSError) and not checkpoint.is_disk_full(error):
                raise
            console.print(f"unigrad: error: {error}; {_last_good(folder)}", markup=False, soft_wrap=True)
            return 1


def show_plan(config: Config) -> int:
    """Print what the run would be and need, without a network and with nothing built or written. Returns exit code 0.

    Raises ConfigError on what is wrong with the configuration, as far as that shows without model and data.
    """
    try:
        stages = _checked_objectives(config)
        prompt_template(config.data.prompt_template)
        architecture, found = find_architecture(
            _model_source(config.model.name_or_path),
            rope_theta=config.model.rope_theta,
            max_position_embeddings=config.model.max_position_embeddings,
        )
    except (ValueError, OSError) as error:
        raise ConfigError(one_line(error)) from error
    _check_lengths(config, max_positions(architecture))
    console = Console(highlight=False)
    for line in plan_lines(config, stages, architecture, found):
        console.print(line, markup=False, soft_wrap=True)
    return 0


def _train(
    config: Config, trainer: Trainer, last_step: int, kept: KeptVerdicts, stack: ExitStack, console: Console
) -> int:
    folder = trainer.run
    wandb = WandbRun(folder, config) if config.train.wandb else None
    folder.mkdir(parents=True, exist_ok=True)
    # Replaced whole: a run killed here must still be one that can be resumed.
    replace_text(folder / CONFIG_FILE, config.dump())
    write_environment(folder)
    kept.write_to(folder / VERDICTS_FILE)
    first_step = last_step + 1 if last_step else 0
    records = Records(folder, first_step, config.train.tensorboard, wandb)
    stack.callback(records.close)
    display = stack.enter_context(Display(console, config.train.max_steps, last_step + 1))
    stopped_by = trainer.train(records, display)
    if stopped_by is None:
        display.say(f"done: the trained model is in {folder / 'final'}")
        return 0
    display.say(f"stopped and saved; go on with: unigrad train --resume {folder}")
    return 128 + stopped_by


def _fresh(config: Config, folder: Path) -> tuple[int, None]:
    if (folder / CONFIG_FILE).exists():
        raise ConfigError(
            f"output_dir {folder} already holds a run; "
            f"go on with `unigrad train --resume {folder}` or give another --output_dir"
        )
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"output_dir {folder} is a file, not a folder")
    return 0, None


def _resume_point(config: Config, folder: Path) -> tuple[int, Path | None]:
    """The last saved step and its checkpoint, the newest complete one; (0, None) where there is none."""
    found = checkpoint.checkpoints(folder)
    saved = found[-1][1] / CONFIG_FILE if found else folder / CONFIG_FILE
    before = load_config(str(saved))
    ignoring: tuple[str, ...] = RESUMABLE_CHANGES
    if config.train.lr_scheduler_type == "constant" and not method(config.method.name).follows_progress:
        ignoring = (*ignoring, "train.max_steps", "train.max_tokens")
    changed = changed_keys(before, config, ignoring)
    if changed:
        old, new = before.flat()[changed[0]], config.flat()[changed[0]]
        raise ConfigError(
            f"--resume {folder}: {changed[0]} was {old!r} and is now {new!r}; a resumed run keeps its config"
        )
    if not found:
        return 0, None
    step, path = found[-1]
    if step > config.train.max_steps:
        raise ConfigError(
            f"--resume {folder}: it stands at step {step}, past train.max_steps = {config.train.max_steps}"
        )
    return step, path


def _model_source(name_or_path: str) -> str:
    return str(MODEL_PATH) if name_or_path == "tiny" else name_or_path


def _last_good(folder: Path) -> str:
    found = checkpoint.checkpoints(folder)
    if not found:
        return "no checkpoint was complete yet"
    return f"the last good checkpoint is {found[-1][1]}; go on from there with: unigrad train --resume {folder}"


def _checked_objectives(config: Config) -> list[Objective]:
    stages = objectives(config)
    for stage in stages:
        if stage.samples and stage.on_policy.is_relative and config.rollout.num_generations == 1:
            raise ConfigError(
                f"rollout.num_generations = 1: {stage.on_policy.name} compares the rollouts of a question, "
                "so one alone never trains; use at least 2, or --algorithm.name reinforce"
            )
    return stages


def _build(
    config: Config, folder: Path, resumed: Path | None, kept: KeptVerdicts, console: Console, stack: ExitStack
) -> Trainer:
    """Everything the trainer needs; what is cheap to check comes before the model is loaded."""
    stages = _checked_objectives(config)
    model_source = _model_source(config.model.name_or_path) if resumed is None else str(resumed)
    template = prompt_template(config.data.prompt_template)
    scorer = _scorer(config, kept, stack)
    train_sets = [(each, _training_problems(each, config)) for each in config.data.train_sets]
    held_out_set: list[Problem] = []
    if config.data.eval is not None and config.train.eval_steps:
        held_out_set = _held_out_problems(config.data.eval, config)

    policy = _load(model_source, config)
    _check_lengths(config, policy.max_positions)
    turn = turn_of(template, policy.tokenizer)
    if turn.note:
        console.print(turn.note, markup=False, soft_wrap=True)
    if turn.end_id is not None:
        # The engine reads it there, and so does whoever loads the trained model.
        policy.add_end(turn.end_id)

    def prepare(problems: list[Problem], name: str, max_demonstration_length: int | None) -> list[PreparedProblem]:
        prepared = prepare_problems(
            problems,
            template,
            policy.tokenizer,
            max_prompt_length=config.data.max_prompt_length,
            max_demonstration_length=max_demonstration_length,
            scorer=scorer,
        )
        for each in prepared.problems:
            policy.check_embedded(each.prompt_ids, f"{name}: the prompt of problem {each.problem.id}")
            if each.demonstration is not None:
                completion_ids = each.demonstration.completion_ids
                policy.check_embedded(completion_ids, f"{name}: the demonstration of problem {each.problem.id}")
        for line in prepared.report.lines():
            console.print(f"{name}: {line}", markup=False, soft_wrap=True)
        return list(prepared.problems)

    sets = [
        ProblemSet(prepare(problems, _label(each, config), config.max_demonstration_length), each.weight)
        for each, problems in train_sets
    ]
    if not all(stage.samples for stage in stages) and all(
        item.demonstration is None for each in sets for item in each.problems
    ):
        where = ", ".join(each.path for each in config.data.train_sets)
        raise ConfigError(
            f"method.name = {config.method.name!r} trains on demonstrations, and {where} holds none "
            "(column `solution`); use grpo"
        )
    held_out = prepare(held_out_set, "held-out", None) if held_out_set else []
    engine = TorchEngine(
        policy.model,
        policy.tokenizer,
        max_concurrent_tokens=config.rollout.max_concurrent_tokens,
        compute_dtype=policy.compute_dtype,
    )
    if any("values" in stage.on_policy.needs for stage in stages):
        policy.add_value_head()
    optimizer = build_optimizer(policy.parameters(), config.train)
    start = checkpoint.Position() if resumed is None else checkpoint.load_state(resumed, optimizer, policy)
    return Trainer(
        config=config,
        run=folder,
        policy=policy,
        engine=engine,
        annotate=_annotator(config, stages, policy),
        scorer=scorer,
        optimizer=optimizer,
        stages=stages,
        start=start,
        sets=sets,
        held_out=held_out,
        suite=_suite(config.data.eval),
        texts=TokenTexts(policy.tokenizer) if config.train.save_token_logprobs else None,
    )


def _check_lengths(config: Config, positions: int | None) -> None:
    longest = longest_row(config)
    if positions is not None and longest > positions:
        raise ConfigError(
            f"data.max_prompt_length and the longest completion or demonstration make {longest} tokens; "
            f"{config.model.name_or_path} takes {positions}"
        )


def _annotator(config: Config, stages: Sequence[Objective], policy: Policy) -> Annotator | None:
    """What fills in the statistics that these algorithms need besides the engine's; None where there are none."""
    algorithms = [each for stage in stages for each in (stage.on_policy, *(offline for offline, _ in stage.offline))]
    needs = {name for each in algorithms for name in each.needs}
    reference = None
    if "reference_logp" in needs or config.algorithm.kl_reward_coefficient:
        reference = _load(_model_source(config.model.name_or_path), config)
        reference.model.requires_grad_(False)
    own_logprobs = "engine_logp" in needs
    if reference is None and not own_logprobs and policy.value_head is None:
        return None
    return Annotator(policy, reference, own_logprobs, config.train.tokens_per_micro_batch, config.rollout.temperature)


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


def _scorer(config: Config, kept: KeptVerdicts, stack: ExitStack) -> Scorer:
    verify = config.verify
    if verify.reward_function:
        return RewardFunctionScorer(load_reward_function(verify.reward_function))
    verifier = Verifier(verify.timeout_seconds, verify.workers, no_box=verify.no_box, kept=kept)
    return VerifierScorer(stack.enter_context(verifier))


def _training_problems(source: SourceConfig, config: Config) -> list[Problem]:
    data, tiny = config.data, config.tiny
    if source.path == TINY:
        problems = tiny_problems("train", tiny.train_problems, tiny.seed, tiny.expert_error_rate)
        problems = problems[: data.max_train_problems]
    else:
        problems = load_problems(
            source.path,
            split=source.split or data.train_split,
            subset=source.subset or data.subset,
            columns=_columns(config) | source.columns.model_dump(exclude_none=True),
            limit=data.max_train_problems,
        )
    if len(data.train_sets) == 1:
        return problems
    label = _label(source, config)  # the ids of two sets may be the same numbers
    return [replace(problem, id=f"{label}:{problem.id}") for problem in problems]


def _held_out_problems(source: str, config: Config) -> list[Problem]:
    data, tiny = config.data, config.tiny
    if source == TINY:
        problems = tiny_problems("eval", tiny.eval_problems, tiny.seed, tiny.expert_error_rate)
        return problems[: data.max_eval_problems]
    return load_problems(
        source, split=data.eval_split, subset=data.subset, columns=_columns(config), limit=data.max_eval_problems
    )


def _columns(config: Config) -> dict[str, str]:
    columns: dict[str, str] = config.data.columns.model_dump(exclude_none=True)
    return columns


def _label(source: SourceConfig, config: Config) -> str:
    """A training set's name on the console and in its problems' ids: short where that tells the sets apart."""
    paths = [each.path for each in config.data.train_sets]
    if len(paths) == 1:
        return "train"
    names = [_suite(path) for path in paths]
    return _suite(source.path) if names.count(_suite(source.path)) == 1 else source.path


def _suite(source: str | None) -> str:
    """A suite's name in the metrics: the file's name without its endings, or the hub dataset's."""
    return Path(source).name.split(".")[0] if source else "none"


def _terms(stage: Objective) -> str:
    demonstrations = f"{' and '.join(each.name for each, _ in stage.offline)} on demonstrations"
    return f"{stage.on_policy.name} on rollouts, {demonstrations}" if stage.samples else demonstrations


def _plan(config: Config, trainer: Trainer) -> list[str]:
    """The derived totals, once."""
    train = config.train
    rollouts = config.rollout.num_generations if any(stage.samples for stage in trainer.stages) else 0
    questions = train.questions_per_step
    updates = questions // (train.questions_per_update or questions)
    parameters = sum(p.numel() for p in trainer.policy.model.parameters())
    epochs = train.max_steps * questions / sum(share(len(each.problems), each.weight).an_epoch for each in trainer.sets)
    return [
        f"model: {config.model.name_or_path}, {parameters / 1e6:,.1f}M parameters on {trainer.policy.device}",
        f"method: {config.method.name}, {', then '.join(_terms(stage) for stage in trainer.stages)}",
        f"a step: {questions} questions, {questions * rollouts} completions, {updates} update{'s' * (updates > 1)}; "
        f"{train.max_steps} steps: {train.max_steps * questions:,} questions, {epochs:.1f} epochs",
    ]
