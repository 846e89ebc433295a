"""From a model and a suite to a table: sample what is not there yet, score, count, write it all down."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from unigrad.data import prompt_template
from unigrad.errors import ConfigError, one_line
from unigrad.evaluate import folder as files
from unigrad.evaluate.benchmark_problems import BenchmarkProblems, load_benchmark
from unigrad.evaluate.completions import append, read, written
from unigrad.evaluate.exclusive import exclusive_solves, shared_benchmarks
from unigrad.evaluate.own_run import as_trained, own_samples
from unigrad.evaluate.passes import check_passes, write_passes
from unigrad.evaluate.progress import Display
from unigrad.evaluate.protocol import AUTO, LEFT_OPEN, Protocol, differences, fingerprint, model_label
from unigrad.evaluate.recorder import Recorder
from unigrad.evaluate.results import averages, benchmark_results, method_of_intervals, tally
from unigrad.evaluate.schemas import SHOWN
from unigrad.evaluate.suites import Benchmark, Suite, requested
from unigrad.evaluate.table import show, show_exclusive
from unigrad.files import replace_json
from unigrad.live import LiveConsole, table_console
from unigrad.machine import limit_threads
from unigrad.types import NoBox
from unigrad.verify import Submission, Verifier, VerifierScorer
from unigrad.versions import changed, environment

if TYPE_CHECKING:
    from unigrad.evaluate.sampler import BenchmarkSampler

_NOT_SAMPLED = ("model", "answers of", "no_box")
"""Settings on which a completion does not depend, or that cannot be seen without the model: rescoring lets them be."""


@dataclass(frozen=True, slots=True)
class Task:
    """A benchmark in this evaluation."""

    benchmark: Benchmark
    loaded: BenchmarkProblems
    samples: int
    path: Path

    @property
    def ids(self) -> list[str]:
        return [problem.id for problem in self.loaded.problems]

    @property
    def size(self) -> int:
        return self.samples * len(self.loaded.problems)

    @property
    def is_complete(self) -> bool:
        return len(written(self.path, self.ids, self.samples)[0]) == self.size

    def check(self) -> None:
        """Raises ConfigError where a completion is damaged; the first that is missing ends the reading."""
        for _ in read(self.path):
            pass


def evaluate(
    model: str,
    suite: str,
    protocol: Protocol,
    *,
    out: Path | None = None,
    data: Path | None = None,
    rescore: bool = False,
    against: Path | None = None,
    passes: Path | None = None,
) -> int:
    """`measure`, for a command line: what goes wrong after the start is said. Returns the exit code (see `cli.main`).

    Raises ConfigError as `measure` does.
    """
    say = LiveConsole(stderr=True)
    try:
        measure(model, suite, protocol, say, out=out, data=data, rescore=rescore, against=against, passes=passes)
    except KeyboardInterrupt:
        say.print("stopped; what is complete is kept, and the same command goes on", markup=False, soft_wrap=True)
        return 130
    except (OSError, FloatingPointError) as error:
        say.print(f"unigrad: error: {one_line(error)}; the same command goes on", markup=False, soft_wrap=True)
        return 1
    except MemoryError as error:
        say.print(f"unigrad: error: {one_line(error)}", markup=False, soft_wrap=True)
        return 1
    return 0


def measure(
    model: str,
    suite: str,
    protocol: Protocol,
    say: Console,
    *,
    out: Path | None = None,
    data: Path | None = None,
    rescore: bool = False,
    against: Path | None = None,
    passes: Path | None = None,
) -> Path:
    """Evaluate `model` on `suite` (names and paths, with commas), and show it. Returns the evaluation's folder.

    passes: a .jsonl file that takes the problems, each with its pass rate, for a run that chooses by it.

    Raises ConfigError on anything that is wrong with the input, before a completion is sampled; later OSError,
    FloatingPointError, and MemoryError where a GPU's runs out. What is complete is kept, and the same call goes on.
    """
    out = out or default_folder(model, suite)
    suites = requested(suite)
    if protocol.prompt_template != AUTO:
        _check_template(protocol.prompt_template)
    before = files.read_settings(out)
    demanded = protocol.max_completion_length
    protocol, line = _completed(protocol, model, before if rescore else None)
    tasks = _tasks(suites, partial(_samples, protocol, before, own_samples(model)), protocol.limit, data, out)
    loaded = {task.benchmark.name: task.loaded for task in tasks}
    if passes is not None:
        check_passes(passes, loaded)
    if files.is_finished(out):
        files.read_results(out, SHOWN)
        for task in tasks:
            task.check()
    settings = _begun(before, _settings(model, suites, protocol, tasks), out, rescore)
    if rescore and not files.is_finished(out):
        raise ConfigError(f"--rescore: {out} holds no finished evaluation; leave --rescore out to finish it")
    if against is not None:
        shared_benchmarks({task.benchmark.name: task.ids for task in tasks}, against)
    if rescore:
        with files.locked(out):
            _rescore(tasks, protocol.judged_by, say)
            _finish(out, suites, settings, tasks)
    elif not files.is_finished(out):
        samplers = _samplers(settings, tasks, protocol, demanded, say)
        if samplers and line:
            say.print(line, markup=False, soft_wrap=True)
        out.mkdir(parents=True, exist_ok=True)
        with files.locked(out):
            if samplers:
                _sample(out, settings, list(zip(tasks, samplers, strict=True)), protocol, say)
            _finish(out, suites, settings, tasks)
    _show(out, against)
    say.print(f"written: {out / files.RESULTS_FILE}", markup=False, soft_wrap=True)
    if passes is not None:
        write_passes(passes, out, loaded)
        say.print(f"written: {passes}, to train on with data.min_pass_rate", markup=False, soft_wrap=True)
    return out


def _show(out: Path, against: Path | None) -> None:
    """The tables of a finished evaluation; of its comparison with another also the file."""
    console = table_console()
    results = files.read_results(out, SHOWN)
    show(results, console)
    if against is not None:
        found = exclusive_solves(out, against)
        show_exclusive(found, results["label"], against, console)
        solves = {name: each.data() for name, each in found.items()}
        replace_json(
            out / f"against-{against.resolve().name}.json", {"against": str(against), "exclusive_solves": solves}
        )


def _completed(protocol: Protocol, model: str, sampled: Mapping[str, Any] | None) -> tuple[Protocol, str | None]:
    """`protocol` as the model's run has it, or as `sampled` (settings.json) says of completions that are there."""
    if sampled is None:
        return as_trained(protocol, model)
    return protocol.completed({key: sampled["protocol"].get(key) for key in LEFT_OPEN}), None


def _check_template(name: str) -> None:
    try:
        prompt_template(name)
    except ValueError as error:
        raise ConfigError(f"--prompt-template: {error}") from error


def default_folder(model: str, suite: str) -> Path:
    """evaluations/<model>-<suite>"""
    names = [Path(item.strip()).name.split(".")[0] for item in suite.split(",") if item.strip()]
    return Path("evaluations") / "-".join((model_label(model), *names))


def _samples(protocol: Protocol, before: Mapping[str, Any] | None, own: int, benchmark: Benchmark) -> int:
    """Of each problem. before: the settings of what is there already. own: where the benchmark has no k of its own."""
    begun = before["benchmarks"].get(benchmark.name, {}).get("samples") if before else None
    return protocol.samples or begun or benchmark.samples or own


def _tasks(
    suites: Sequence[Suite], samples: Callable[[Benchmark], int], limit: int | None, data: Path | None, out: Path
) -> list[Task]:
    benchmarks = [benchmark for suite in suites for benchmark in suite.benchmarks]
    if data is not None and data.is_file() and len(benchmarks) > 1:
        raise ConfigError(f"--data {data} is one file, and --suite names {len(benchmarks)} benchmarks; name a folder")
    return [
        Task(
            benchmark,
            load_benchmark(benchmark, data, limit),
            samples(benchmark),
            files.completions_file(out, benchmark.name),
        )
        for benchmark in benchmarks
    ]


def _settings(model: str, suites: Sequence[Suite], protocol: Protocol, tasks: Sequence[Task]) -> dict[str, Any]:
    """Everything that was asked for, as settings.json records it; `sampled_with` joins it with the model."""
    return {
        "model": model,
        "model_fingerprint": fingerprint(model),
        "suite": [benchmark.name for suite in suites for benchmark in suite.benchmarks],
        "protocol": protocol.record(),
        "benchmarks": {
            task.benchmark.name: {
                "source": task.loaded.source,
                "samples": task.samples,
                "problems": task.loaded.problems_digest,
                "answers": task.loaded.answers_digest,
            }
            for task in tasks
        },
    }


def _begun(before: dict[str, Any] | None, settings: dict[str, Any], out: Path, rescore: bool) -> dict[str, Any]:
    """The settings that hold for what is there and what is to come. Raises ConfigError where they differ."""
    if before is None or not (files.has_completions(out) or files.is_finished(out)):
        return settings
    for key, old, new in differences(before, settings):
        if rescore and key.startswith(_NOT_SAMPLED):
            continue
        help_ = "--rescore verifies again, or " if key.startswith("answers of") else ""
        raise ConfigError(
            f"{out} holds an evaluation whose {key} was {old!r} and is now {new!r}; "
            f"{help_}give another folder with --out"
        )
    # Rescored completions keep their model; everything else may have moved.
    own = {key: before[key] for key in ("model", "model_fingerprint", "sampled_with")}
    return {**settings, **own} if rescore else before


def _samplers(
    settings: dict[str, Any], tasks: Sequence[Task], protocol: Protocol, demanded: int | None, say: Console
) -> list[BenchmarkSampler]:
    """The model with each task's prompts; none where no completion is missing. Completes `settings`.

    demanded: tokens that every prompt must leave for its completion.
    """
    if all(task.is_complete for task in tasks):
        return []
    # Only now: torch and the model are the slow part.
    import torch

    from unigrad.evaluate.sampler import BenchmarkSampler, facts, load_model

    limit_threads()
    if "sampled_with" in settings:
        # The last bits of a sum depend on how many threads share it.
        torch.set_num_threads(settings["sampled_with"]["threads"])
    try:
        policy, engine = load_model(settings["model"], protocol)
        samplers = [
            BenchmarkSampler(policy, engine, protocol, task.benchmark, task.loaded.problems, task.samples)
            for task in tasks
        ]
        if demanded is not None:
            for sampler in samplers:
                sampler.check_room(demanded)
    except (ValueError, OSError) as error:
        raise ConfigError(one_line(error)) from error
    for line in dict.fromkeys(note for sampler in samplers for note in sampler.notes):
        say.print(line, markup=False, soft_wrap=True)
    found = facts(policy)
    if "sampled_with" not in settings:
        templates = {sampler.benchmark.name: sampler.template.name for sampler in samplers}
        settings["sampled_with"] = {**found, "prompt_templates": templates, "versions": environment()}
    for key, value in found.items():
        if (begun := settings["sampled_with"][key]) != value:
            say.print(f"{key} was {begun} and is now {value}: completions may differ in rounding", markup=False)
    for line in changed(settings["sampled_with"]["versions"]):
        say.print(f"{line}: completions may differ in rounding", markup=False, soft_wrap=True)
    return samplers


def _sample(
    out: Path,
    settings: Mapping[str, Any],
    work: Sequence[tuple[Task, BenchmarkSampler]],
    protocol: Protocol,
    say: Console,
) -> None:
    """Sample what is missing. Raises MemoryError where a GPU's runs out."""
    import torch

    # The settings first: by them a folder is known as an evaluation's, whenever this is killed.
    replace_json(out / files.SETTINGS_FILE, settings)
    (out / files.COMPLETIONS_FOLDER).mkdir(exist_ok=True)
    try:
        with Verifier(no_box=protocol.judged_by) as verifier:
            _sample_all(work, verifier, model_label(settings["model"]), say)
    except torch.OutOfMemoryError as error:
        raise MemoryError(
            "out of memory; give less of it to the cache with --max-concurrent-tokens, below "
            f"{protocol.max_concurrent_tokens}, and, if some completions are there already, another --out"
        ) from error


def _sample_all(work: Sequence[tuple[Task, BenchmarkSampler]], verifier: Verifier, label: str, say: Console) -> None:
    there = []
    for task, _ in work:
        found, end = written(task.path, task.ids, task.samples)
        if task.path.is_file():
            os.truncate(task.path, end)
        there.append(found)
    scorer = VerifierScorer(verifier)
    with Display(say, sum(task.size for task, _ in work), sum(map(len, there)), label) as display:
        for (task, sampler), found in zip(work, there, strict=True):
            recorder = Recorder(task.path, found, scorer, partial(display.advance, task.benchmark.name))
            ids = task.ids
            for chunk in sampler.chunks:
                if not found.issuperset(chunk.pairs(ids)):
                    sampler.sample(chunk, scorer, recorder.add)
                    recorder.write()
                    display.chunk_ended()


def _rescore(tasks: Sequence[Task], no_box: NoBox, say: Console) -> None:
    """Verify every completion again. All files are written before the first takes its predecessor's place."""
    changed = total = 0
    with Verifier(no_box=no_box) as verifier:
        for task in tasks:
            problems = {problem.id: problem for problem in task.loaded.problems}
            if not task.is_complete:
                raise ConfigError(
                    f"{task.path} lacks completions that {files.RESULTS_FILE} counts; remove that to sample them"
                )
            old = [sample for sample, _ in read(task.path)]
            items = [
                Submission(each.completion, problems[each.id].answer, problems[each.id].kind, each.truncated)
                for each in old
            ]
            new = [each.judged(verdict) for each, verdict in zip(old, verifier.verify_batch(items), strict=True)]
            rescored = task.path.with_suffix(".partial")
            rescored.unlink(missing_ok=True)
            append(rescored, new)
            changed += sum(a.correct != b.correct for a, b in zip(old, new, strict=True))
            total += len(new)
    for task in tasks:
        task.path.with_suffix(".partial").replace(task.path)
    say.print(f"verified {total} completions again: {changed} changed between right and not", markup=False)


def _finish(out: Path, suites: Sequence[Suite], settings: Mapping[str, Any], tasks: Sequence[Task]) -> None:
    """Count, and write the problems, settings.json and results.json."""
    found = {
        task.benchmark.name: benchmark_results(task.benchmark, task.loaded.problems, task.samples, tally(task.path))
        for task in tasks
    }
    results = {
        "model": settings["model"],
        "label": model_label(settings["model"]),
        "suites": [{"name": each.name, "benchmarks": [one.name for one in each.benchmarks]} for each in suites],
        "settings": settings,
        "scored_with": environment(),
        "intervals": method_of_intervals(),
        "averages": averages(suites, found),
        "benchmarks": found,
    }
    for task in tasks:
        files.write_problems(out, task.benchmark.name, task.loaded.problems)
    replace_json(out / files.SETTINGS_FILE, settings)
    replace_json(out / files.RESULTS_FILE, results)
