"""`unigrad.train(…)`: a run from Python, of objects where the command line takes paths. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from unigrad.config import Config, SourceConfig
from unigrad.config.texts import as_texts
from unigrad.data.given import write_rows
from unigrad.errors import ConfigError, UserCodeError, nearest
from unigrad.files import check_folder
from unigrad.live import LiveConsole
from unigrad.options import VERIFIER
from unigrad.runs.folder import initial_model, is_started, problems_file
from unigrad.train.configuration import configuration
from unigrad.verify.rewards import RewardFunction, hand_over

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from unigrad.train.handle import Run

ARGUMENTS = ("train", "eval", "reward", "model", "tokenizer", "output_dir", "resume")
Problems = str | Path | Iterable[Any]
Reward = str | RewardFunction


def train(
    recipe: str | Path | None = None,
    *,
    train: Problems | Mapping[str, Any] | None = None,
    eval: Problems | Mapping[str, Problems] | None = None,
    reward: Reward | Sequence[Reward] | None = None,
    model: str | Path | PreTrainedModel | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    output_dir: str | Path | None = None,
    resume: str | Path | None = None,
    **options: Any,
) -> Run:
    """Train a model on problems with demonstrations and a verifier, as `unigrad train RECIPE` does.

    recipe: a bundled recipe's name or a YAML path; None: tiny-hpt. train, eval: what `data.train` and `data.eval` take,
    or the problems themselves: a list of mappings (columns as in a file) or of `unigrad.types.Problem`, a
    `datasets.Dataset` or a data frame; eval also a mapping of several sets by name. reward: a function with TRL's
    signature, its dotted path, "verify" for the verifier, or several of these, whose weighted sum counts. model: a hub
    id, a folder, or a model object with its `tokenizer`. resume: the folder of a run to go on with. options: any key of
    `unigrad train --help`, as in `**{"train.max_steps": 20}`.

    What is handed over as an object is written into the run's folder first, so that the run can be repeated and gone on
    with; a model object is left as it is, and the trained one is `Run.policy`.

    Raises ConfigError (a ValueError) on anything that is wrong with the input; OSError, FloatingPointError or
    unigrad.errors.RewardError for what ends the run later, with a note that says how to go on; and what a reward
    function of yours raises, as it is. Ctrl-C ends the run after the step in flight, saved; a second one at once.
    """
    for key in options:
        # Keys of the configuration have a dot in them.
        if "." not in key and (near := nearest(key, ARGUMENTS, cutoff=0.7)):
            raise ConfigError(f"unknown argument {key!r}; did you mean {near!r}?")
    if resume is not None and (given := _given(train=train, eval=eval, model=model)):
        raise ConfigError(f"resume = {str(resume)!r} takes {given[0]} from the run; leave it out")
    if reward is not None:
        options |= _rewards(reward)
    if output_dir is not None:
        options["output_dir"] = output_dir
    if isinstance(model, str | Path):
        options["model.name_or_path"] = model
    name = None if recipe is None else str(recipe)
    going_on = None if resume is None else str(resume)
    folder = Path(going_on or configuration(name, going_on, as_texts(options)).output_dir)
    if model is not None and not isinstance(model, str | Path):
        options["model.name_or_path"] = _saved(model, tokenizer, folder)
    elif tokenizer is not None:
        raise ConfigError("tokenizer: only beside a model object; a folder or a hub id brings its own")
    if train is not None:
        options["data.train"] = _problems(train, "train", folder)
    if eval is not None:
        options["data.eval"] = _held_out(eval, folder)
    return _trained(configuration(name, going_on, as_texts(options)), folder, going_on is not None)


def _trained(config: Config, folder: Path, goes_on: bool) -> Run:
    # Only now: torch takes seconds, and every error of the input is found before it.
    from unigrad.train.handle import Run
    from unigrad.train.run import train as train_as
    from unigrad.versions import warn_of_untested

    warn_of_untested()
    try:
        trained = train_as(config, LiveConsole(), resume=folder if goes_on else None)
    except UserCodeError as error:
        raise error.__cause__ or error from None
    assert trained is not None  # only a dry run trains nothing
    # What several ranks hold in parts is read from what they saved.
    policy = None if trained.policy.is_sharded else trained.policy
    return Run(folder, policy, trained.stopped_by)


def _given(**arguments: Any) -> list[str]:
    return [name for name, value in arguments.items() if value is not None]


def _rewards(reward: Reward | Sequence[Reward]) -> dict[str, Any]:
    """The keys of the configuration that say so."""
    is_one = isinstance(reward, str) or callable(reward)
    several: list[Any] = [reward] if is_one else list(cast(Sequence[Any], reward))
    names = iter(hand_over([each for each in several if not isinstance(each, str)]))
    paths = [each if isinstance(each, str) else next(names) for each in several]
    if is_one and paths[0] != VERIFIER:
        return {"verify.reward_function": paths[0]}
    return {"verify.reward_functions": [] if is_one else paths}


def _fresh(folder: Path) -> None:
    """Raises ConfigError where something is to be written into a folder that cannot hold a new run."""
    check_folder(folder, f"output_dir {folder}")
    if is_started(folder):
        raise ConfigError(
            f"output_dir {folder} already holds a run; "
            f"go on with unigrad.train(resume={str(folder)!r}) or give another output_dir"
        )


def _problems(given: Any, name: str, folder: Path) -> Any:
    """What stands in the configuration for problems: a path, or a list of what the configuration takes, as it is."""
    if isinstance(given, str | Path):
        return given
    if isinstance(given, Sequence) and all(isinstance(each, str) or _is_source(each) for each in given):
        return list(given)
    _fresh(folder)
    file = problems_file(folder, name)
    write_rows(given, file, name)
    return file


def _is_source(item: Any) -> bool:
    return isinstance(item, Mapping) and "path" in item and item.keys() <= {"name", *SourceConfig.model_fields}


def _held_out(given: Any, folder: Path) -> Any:
    if not isinstance(given, Mapping):
        return _problems(given, "eval", folder)
    return {
        name: each if isinstance(each, Mapping) else str(_problems(each, name, folder)) for name, each in given.items()
    }


def _saved(model: Any, tokenizer: Any, folder: Path) -> Path:
    if not hasattr(model, "save_pretrained"):
        raise ConfigError(f"model: a hub id, a folder, or a transformers model, not {type(model).__name__}")
    if tokenizer is None:
        raise ConfigError("model: beside a model object its tokenizer is needed: unigrad.train(…, tokenizer=tokenizer)")
    _fresh(folder)
    for each in (model, tokenizer):
        each.save_pretrained(initial_model(folder))
    return initial_model(folder)
