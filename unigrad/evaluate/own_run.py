"""The run that a model comes from: what it was prompted with, stopped by and sampled at. Nothing here imports torch."""

from __future__ import annotations

import json
from pathlib import Path

from unigrad.config import Config, load_config, read_yaml
from unigrad.errors import ConfigError, shortened
from unigrad.evaluate.protocol import AUTO, MUST_BE_KNOWN, Protocol
from unigrad.files import is_file, read_text
from unigrad.runs.folder import CONFIG_FILE, is_saved_model
from unigrad.seeds import held_out_seed


def as_trained(protocol: Protocol, model: str) -> tuple[Protocol, str | None]:
    """`protocol`, with what it leaves open as the run says that `model` lies in; and a line that says so.

    Raises ConfigError where that run's config.yaml cannot be read and something is left open.
    """
    file = config_file(model)
    if file is None:
        return protocol, None
    try:
        config = load_config(str(file))
    except ConfigError as error:
        if all(getattr(protocol, name) not in (None, AUTO) for name in MUST_BE_KNOWN):
            return protocol, None
        raise ConfigError(f"{error}; without it, give --prompt-template, --stop, --no-box and --engine") from error
    completed = protocol.completed(
        {
            "prompt_template": config.data.prompt_template,
            "apply_chat_template": config.data.apply_chat_template,
            "chat_template_kwargs": config.data.chat_template_kwargs or None,
            "system_prompt": config.data.system_prompt,
            "stop": config.rollout.stop,
            "no_box": config.verify.no_box,
            "engine": config.rollout.engine,
            "temperature": config.eval.temperature,
            "top_p": config.eval.top_p,
            "max_completion_length": config.held_out_completion_length,
            "seed": held_out_seed(config.held_out_seed),
            "dtype": config.model.dtype,
        }
    )
    stops = f", stop {', '.join(map(repr, completed.stop))}" if completed.stop else ""
    no_box = "" if completed.no_box == "last_number" else f", no box: {completed.no_box}"
    engine = "" if completed.engine == Config().rollout.engine else f", engine {completed.engine}"
    chat = "" if completed.apply_chat_template is None else f", chat template {completed.apply_chat_template}"
    kwargs = f", {json.dumps(completed.chat_template_kwargs)}" if completed.chat_template_kwargs else ""
    system = "" if completed.system_prompt is None else f", system prompt {shortened(completed.system_prompt, 60)!r}"
    return completed, (
        f"as {file} has it: prompt template {completed.prompt_template!r}{chat}{kwargs}{system}{stops}{no_box}{engine}"
        f", temperature {completed.drawn_at:g}, top-p {completed.nucleus:g}, "
        f"at most {completed.longest_completion} tokens"
    )


def own_samples(model: str) -> int:
    """Of a problem of a set without a k of its own: as many as the run that `model` lies in draws of a held-out one."""
    file = config_file(model)
    try:
        return 1 if file is None else load_config(str(file)).held_out_generations
    except ConfigError:
        return 1


def config_file(model: str) -> Path | None:
    """The config.yaml of the run; None where `model` lies in no run."""
    folder = Path(model).expanduser().absolute()
    if is_file(folder):
        folder = folder.parent
    for each in (folder, folder.parent) if is_saved_model(folder) else (folder,):
        if is_file(each / CONFIG_FILE) and _is_ours(each / CONFIG_FILE):
            return each / CONFIG_FILE
    return None


def _is_ours(file: Path) -> bool:
    """Other programs call a file so too; one that cannot be read counts as ours, for `load_config` says why."""
    try:
        tree = read_yaml(read_text(file), str(file))
    except ConfigError:
        return True
    return isinstance(tree, dict) and tree.keys() <= Config.model_fields.keys()
