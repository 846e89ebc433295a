"""README.md beside a trained model: what it was trained from, on what, how, and how well it does."""

from __future__ import annotations

from pathlib import Path

import yaml

from unigrad.config import Config
from unigrad.files import replace_text
from unigrad.hybrid import METHODS
from unigrad.rollout import Sampling
from unigrad.runs.folder import CONFIG_FILE, read_examples, read_inputs
from unigrad.runs.metrics import Metric, RunMetrics
from unigrad.versions import environment

CARD_FILE = "README.md"


def sampled_in_words(config: Config) -> str:
    """How the held-out problems are sampled."""
    sampling = Sampling.of_held_out(config)
    count = sampling.num_generations
    drawn = f"temperature {sampling.temperature:g}, top_p {sampling.top_p:g}" if sampling.temperature else "greedy"
    return f"{count} sample{'s' * (count > 1)} a problem, {drawn}, at most {sampling.max_completion_length} tokens"


def accuracy_in_words(config: Config, run: Path) -> str | None:
    """The last held-out accuracy of the run, and how it was measured; None where nothing was."""
    found = RunMetrics(run).evaluations
    if not found:
        return None
    last = max(found)
    before = f" at step {last}, {found[0].accuracy:.1%} before training" if last and 0 in found else ""
    return f"held-out accuracy {found[last].accuracy:.1%}{before} ({sampled_in_words(config)})"


def write_card(folder: Path, config: Config, run: Path) -> None:
    """For the model in `folder`, which `run` has trained."""
    replace_text(folder / CARD_FILE, _card(config, run))


def _card(config: Config, run: Path) -> str:
    name = config.model.name_or_path
    facts = {
        # The hub knows its own ids alone.
        **({"base_model": name} if name.count("/") == 1 and not Path(name).exists() else {}),
        "library_name": "transformers",
        "tags": ["unigrad", config.method.name],
    }
    method = METHODS[config.method.name].name if config.method.name in METHODS else config.method.name
    measured = RunMetrics(run)
    lines = [
        f"---\n{yaml.safe_dump(facts, sort_keys=False)}---",
        f"# {name}, trained by {method}",
        f"Trained with [unigrad](https://arxiv.org/abs/2509.04419), steps: {measured.steps}, "
        f"{measured.tokens_generated:,} tokens generated, {measured.tokens_trained:,} trained.",
        "## Data\n" + "\n".join(_data(config, run)),
        "## Metrics\n" + "\n".join(_metrics(config, run, measured)),
        f"## Command\n`unigrad train {CONFIG_FILE}`, where {CONFIG_FILE} holds what is not a default:\n\n"
        f"```yaml\n{_own_keys(config)}```",
        "## Versions\n" + "\n".join(f"- {package} {version}" for package, version in environment().items()),
    ]
    return "\n\n".join(lines) + "\n"


def _data(config: Config, run: Path) -> list[str]:
    columns = {example.set: example.columns for example in read_examples(run)}
    digest = read_inputs(run).get("data.train")
    lines = [f"- {source.path}" for source in config.data.train_sets]
    lines += [f"- {name}: {said}" for name, said in columns.items()]
    return lines + ([f"- fingerprint {digest}"] if digest else [])


def _metrics(config: Config, run: Path, measured: RunMetrics) -> list[str]:
    rewards = measured.curve(Metric.REWARD_MEAN)
    lines = [f"- mean reward of the rollouts at step {max(rewards)}: {rewards[max(rewards)]:.3f}"] if rewards else []
    sets = measured.evaluations_by_set
    if sets:
        last = max(sets)
        lines += [f"- accuracy on {name} at step {last}: {each.accuracy:.1%}" for name, each in sets[last].items()]
        lines.append(f"- measured with {sampled_in_words(config)}")
    return lines or ["- none was measured"]


def _own_keys(config: Config) -> str:
    """The sections with the keys that are not defaults, as YAML."""
    return yaml.safe_dump(
        _differing(config.model_dump(mode="json"), Config().model_dump(mode="json")), allow_unicode=True
    )


def _differing(own: dict[str, object], default: dict[str, object]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in own.items():
        usual = default.get(key)
        if isinstance(value, dict) and isinstance(usual, dict) and usual:
            if inner := _differing(value, usual):
                found[key] = inner
        elif value != usual:
            found[key] = value
    return found
