"""A model that comes from a run is evaluated as it was trained, unless it is said otherwise."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from chat_models import save_chat_model
from transformers import AutoTokenizer

from unigrad.cli import main
from unigrad.config import load_config
from unigrad.data.tiny import MODEL_PATH, tiny_problems
from unigrad.errors import ConfigError
from unigrad.evaluate.own_run import as_trained
from unigrad.evaluate.protocol import AUTO, Protocol
from unigrad.runs.metrics import RunMetrics
from unigrad.seeds import held_out_seed

OWN = "Q: {problem}\n"
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PROTOCOL = [each.name for each in fields(Protocol)]
BOX = "Please reason step by step, and put your final answer within \\boxed{}."


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("sums.jsonl").write_text("".join(json.dumps({"problem": f"{i}+2?", "answer": "3"}) + "\n" for i in range(12)))
    return tmp_path


def make_run(run: Path, template: str = OWN, stop: str = '["1", "ab"]', model: Path = MODEL_PATH) -> Path:
    for name in ("final", "checkpoint-2"):
        shutil.copytree(model, run / name)
    overrides = {"data.prompt_template": template, "rollout.stop": stop}
    (run / "config.yaml").write_text(load_config("tiny-hpt", overrides).dump())
    shutil.copy(run / "config.yaml", run / "checkpoint-2")
    return run


def as_its_run_has_it(**given: Any) -> Protocol:
    """What `make_run` makes: the recipe's evaluations, and its seed as a run's evaluations have it."""
    own = {
        "prompt_template": OWN,
        "stop": ("1", "ab"),
        "no_box": "last_number",
        "engine": "auto",
        "temperature": 1.0,
        "top_p": 1.0,
        "max_completion_length": 80,
        "seed": held_out_seed(0),
    }
    return Protocol(**{**own, **given})


def evaluate(model: object, *options: object, code: int = 0) -> None:
    fixed = ("--suite", "sums.jsonl", "--out", "out", "--max-completion-length", "24")
    assert main(["evaluate", str(model), *fixed, *map(str, options)]) == code


def protocol_of(out: str = "out") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(out, "settings.json").read_text())["protocol"]
    return found


def completions(out: str = "out") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(out, "completions", "sums.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("where", ["final", "checkpoint-2", ".", "final/", "moved"])
def test_where_a_model_comes_from_a_run(here: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(here / "run")
    if where == "moved":
        # A checkpoint carries its run's configuration with it.
        shutil.move(run / "checkpoint-2", here / "moved")
        run = here
    said, line = as_trained(Protocol(seed=3), str(run / where))
    assert said == as_its_run_has_it(seed=3)
    assert line is not None
    assert line.endswith(
        r"config.yaml has it: prompt template 'Q: {problem}\n', stop '1', 'ab', "
        "temperature 1, top-p 1, at most 80 tokens"
    )
    monkeypatch.chdir(run / where)
    assert as_trained(Protocol(seed=3), ".") == (said, line)


@pytest.mark.parametrize("model", ["tiny", "org/model", "org/final", "final", "other/final", "plain", "x/model.gguf"])
def test_where_it_comes_from_none(here: Path, model: str) -> None:
    # A folder of this name, and files of this name, that are another program's.
    shutil.copytree(MODEL_PATH, here / "other" / "final")
    shutil.copytree(MODEL_PATH, here / "plain")
    (here / "other" / "config.yaml").write_text("trainer:\n  epochs: 3\nmodel:\n  name: x\n")
    (here / "plain" / "config.yaml").write_text("- a\n- list\n")
    # Nor does a folder below a run's, which the run did not write.
    make_run(here / "run")
    shutil.copytree(MODEL_PATH, here / "run" / "merged")
    for name in (model, str(here / "run" / "merged")):
        assert as_trained(Protocol(), name) == (Protocol(), None)


def test_what_is_given_wins(here: Path) -> None:
    model = str(make_run(here / "run") / "final")
    given = Protocol(prompt_template="boxed")
    assert as_trained(given, model)[0] == as_its_run_has_it(prompt_template="boxed")
    given = Protocol(stop=("z",))
    assert as_trained(given, model)[0] == as_its_run_has_it(stop=("z",))
    for given in (
        Protocol(temperature=0.0),
        Protocol(seed=0),
        Protocol(max_completion_length=8192),
        Protocol(top_p=0.5),
    ):
        assert as_trained(given, model)[0] == as_its_run_has_it(
            **{name: value for name in PROTOCOL if (value := getattr(given, name)) != getattr(Protocol(), name)}
        )
    given = Protocol(prompt_template="boxed", stop=("z",), no_box="wrong", engine="torch")
    (here / "run" / "config.yaml").write_text("neither is read: [")
    assert as_trained(given, model) == (given, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data: [", "not YAML"),
        ("rollout:\n  stp: [a]\n", "unknown key 'rollout.stp'; did you mean 'rollout.stop'?"),
    ],
)
def test_a_configuration_that_cannot_be_read_is_one_line(
    here: Path, text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_run(here / "run") / "final"
    (here / "run" / "config.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        as_trained(Protocol(), str(model))
    assert said in str(error.value)
    assert str(error.value).endswith("; without it, give --prompt-template, --stop, --no-box and --engine")
    evaluate(model, code=2)
    printed = capsys.readouterr().err
    assert (printed.count("\n"), said in printed) == (1, True)


def test_an_evaluation_of_a_run_takes_its_prompts_and_stops(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_run(here / "run") / "final"
    evaluate(model, "--temperature", "3")
    assert capsys.readouterr().err.count(f"as {here / 'run' / 'config.yaml'} has it: prompt template") == 1
    assert {key: protocol_of()[key] for key in ("prompt_template", "stop")} == {
        "prompt_template": OWN,
        "stop": ["1", "ab"],
    }
    stopped = [line["completion"] for line in completions() if line["completion"].endswith(("1", "ab"))]
    assert stopped
    assert not any("1" in line["completion"][:-1] for line in completions())
    # The same again, and with the same said aloud; anything else is an error that names the key.
    evaluate(model, "--temperature", "3")
    evaluate(model, "--temperature", "3", "--prompt-template", OWN, "--stop", "1", "--stop", "ab")
    for options, said in (
        (("--stop", "1"), "stop was ['1', 'ab'] and is now ['1']"),
        (("--prompt-template", "plain"), r"prompt_template was 'Q: {problem}\n' and is now 'plain'"),
    ):
        capsys.readouterr()
        evaluate(model, "--temperature", "3", *options, code=2)
        error = capsys.readouterr().err
        assert f"whose {said}; give another folder" in error
        assert error.count("\n") == 1
    # Verdicts do not depend on where the run has gone.
    shutil.rmtree(here / "run")
    evaluate(model, "--temperature", "3", "--rescore")
    assert protocol_of()["stop"] == ["1", "ab"]


def test_stop_strings_end_completions_of_any_model(here: Path) -> None:
    evaluate("tiny", "--prompt-template", "plain", "--temperature", "3", "--out", "free")
    evaluate("tiny", "--prompt-template", "plain", "--temperature", "3", "--stop", "1", "--stop", "8")
    assert protocol_of()["stop"] == ["1", "8"]
    cut = 0
    free = {line["id"]: line["completion"] for line in completions("free")}
    for line in completions():
        whole = free[line["id"]]
        ends = [at for at, letter in enumerate(whole, 1) if letter in "18"]
        assert line["completion"] == whole[: ends[0] if ends else None]
        cut += bool(ends)
    assert cut > 3


def test_an_empty_stop_string_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    evaluate("tiny", "--stop", "", code=2)
    assert capsys.readouterr().err == "unigrad: error: --stop '': must not be empty\n"


@pytest.mark.parametrize(
    ("model", "chat_template", "name"),
    [
        ("run", CHATML, "chat"),
        ("base", CHATML, "chat_boxed"),
        # As Qwen2.5-Math's, which asks for the box by itself.
        ("base", f"{BOX}\n{CHATML}", "chat"),
    ],
)
def test_a_chat_models_completions_end_with_its_turn(here: Path, model: str, chat_template: str, name: str) -> None:
    folder = here / "base"
    save_chat_model(folder, chat_template, ["<|im_start|>", "<|im_end|>"])
    if model == "run":
        folder = make_run(here / "run", "chat", "[]", folder) / "final"
    evaluate(folder, "--temperature", "50", "--top-p", "1", "--samples", "16")
    settings = json.loads(Path("out", "settings.json").read_text())
    assert settings["sampled_with"]["prompt_templates"] == {"sums": name}
    assert settings["protocol"]["prompt_template"] == ("chat" if model == "run" else AUTO)
    ended = [line for line in completions() if not line["truncated"]]
    assert 20 < len(ended) < 192
    assert not any("<|im_end|>" in line["completion"] or "</s>" in line["completion"] for line in completions())
    assert any("<|im_start|>" in line["completion"] for line in completions())
    # Another prompt, another end.
    evaluate(
        folder, "--prompt-template", "plain", "--temperature", "50", "--top-p", "1", "--samples", "16", "--out", "p"
    )
    assert any("<|im_end|>" in line["completion"] for line in completions("p"))


def test_prompts_that_the_model_does_not_embed_are_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(MODEL_PATH)
    tokenizer.add_tokens(["<think>"])
    shutil.copytree(MODEL_PATH, here / "m")
    tokenizer.save_pretrained(here / "m")
    evaluate("m", "--prompt-template", "{problem}<think>", code=2)
    error = capsys.readouterr().err
    assert error.startswith(
        "unigrad: error: sums: the prompt of problem sums.jsonl:1 holds the token '<think>' (id 101)"
    )
    assert error.count("\n") == 1


def test_an_evaluation_says_the_number_that_its_run_says(here: Path) -> None:
    problems = [{"problem": each.problem, "answer": each.answer} for each in tiny_problems("eval", 20, 5)]
    Path("own.jsonl").write_text("".join(json.dumps(each) + "\n" for each in problems))
    keys = {
        "train.max_steps": 1, "train.questions_per_step": 2, "rollout.num_generations": 2, "data.eval": "own.jsonl",
        "eval.num_generations": 5, "eval.temperature": 0.9, "eval.top_p": 0.8, "eval.max_completion_length": 40,
        "train.seed": 3, "output_dir": "run",
    }  # fmt: skip
    assert main(["train", "tiny-hpt", *(f"--{key}={value}" for key, value in keys.items())]) == 0
    said = RunMetrics(Path("run")).accuracy
    assert 0 < said < 1
    for number, (given, is_the_same) in enumerate({"": True, "--seed=1": False, "--samples=1": False}.items()):
        out = f"out-{number}"
        # A file has no k of its own, and so its run's; that of the benchmark is GSM8K's.
        arguments = ["run/final", "--suite", "own.jsonl,gsm8k", "--data", ".", "--out", out, *filter(None, [given])]
        shutil.copy("own.jsonl", "gsm8k.jsonl")
        assert main(["evaluate", *arguments]) == 0
        found = json.loads(Path(out, "results.json").read_text())["benchmarks"]
        assert (found["own"]["accuracy"] == pytest.approx(said, abs=1e-12)) is is_the_same
        assert {count["n"] for count in found["gsm8k"]["counts"].values()} == {1}
    # Where its run is gone, what was drawn is verified again as it was drawn.
    shutil.rmtree("run")
    assert (
        main(["evaluate", "run/final", "--suite", "own.jsonl,gsm8k", "--data", ".", "--out", "out-0", "--rescore"]) == 0
    )


def test_a_runs_own_length_ends_at_the_models_positions(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_run(here / "run", stop="[]") / "final"
    length = json.loads((MODEL_PATH / "config.json").read_text())["max_position_embeddings"]
    config = load_config("tiny-hpt", {"rollout.max_completion_length": str(length)})
    (here / "run" / "config.yaml").write_text(config.dump())
    assert main(["evaluate", str(model), "--suite", "sums.jsonl", "--limit", "2", "--out", "own"]) == 0
    assert protocol_of("own")["max_completion_length"] == length
    assert main(["evaluate", str(model), "--suite", "sums.jsonl", "--max-completion-length", str(length)]) == 2
    assert f"--max-completion-length {length}: the model takes {length} positions" in capsys.readouterr().err
