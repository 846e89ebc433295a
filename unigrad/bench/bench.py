"""From what is to be measured to a table: each measurement a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from rich.console import Console

from unigrad.bench.growth import exponent
from unigrad.bench.measured import Measured, Part
from unigrad.bench.options import AXES, FIXED
from unigrad.config import Config, load_config
from unigrad.errors import ConfigError, shortened
from unigrad.live import table_console, text_table

GIB = 2**30


def bench(options: Mapping[str, str], repeats: int, growth: tuple[str, Sequence[int]] | None) -> int:
    """Measure steps under these `options` (keys of the configuration) and print what they cost, or how that grows.

    growth: along which of AXES, and its values; without any, the axis's own.
    Returns the exit code (see `cli.main`). Raises ConfigError on whatever is wrong with the input.
    """
    console = table_console()
    config = load_config("tiny", {**FIXED, **options})
    if growth is None:
        measured = _measure(options, {}, repeats)
        if measured is None:
            return 1
        _show(measured, config, repeats, console)
        return 0
    return _grow(options, *growth, repeats, config, console)


def _measure(options: Mapping[str, str], sizes: Mapping[str, int], repeats: int) -> Measured | None:
    """None where the process failed, having said why."""
    asked = json.dumps({"options": dict(options), "sizes": dict(sizes), "repeats": repeats})
    command = [sys.executable, "-m", "unigrad.bench"]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return Measured(**json.loads(done.stdout))
    last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
    if done.returncode == 2:
        raise ConfigError(last)
    if done.returncode < 0:
        last = f"ended by signal {-done.returncode}, as for want of memory"
    sys.stderr.write(f"unigrad: error: the measuring process failed: {shortened(last, 500)}\n")
    return None


def _about(measured: Measured, config: Config, repeats: int) -> Iterator[str]:
    rollout, train = config.rollout, config.train
    yield (
        f"{measured.model}: {measured.parameters / 1e6:,.1f}M parameters, {measured.dtype} on {measured.device}, "
        f"{measured.threads}"
    )
    yield (
        f"a step: {train.questions_per_step} prompts of {config.data.max_prompt_length} tokens × "
        f"{rollout.num_generations} completions × {rollout.max_completion_length} forced tokens; {config.method.name}, "
        f"micro-batches of {train.tokens_per_micro_batch:,} tokens; median of {repeats} steps after a first"
    )


def _say(console: Console, lines: Iterator[str]) -> None:
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def _show(measured: Measured, config: Config, repeats: int, console: Console) -> None:
    _say(console, _about(measured, config, repeats))
    table = text_table(("part", "seconds", "least–most", "share", "tokens/s", "of the matrix rate"))
    total = sum(median(measured.seconds[part]) for part in Part)
    for name, seconds in [*measured.seconds.items(), ("step", measured.steps)]:
        middle = median(seconds)
        rate = f"{measured.tokens / middle:,.0f}" if middle and name != Part.REST else "–"
        operations = measured.operations.get(name)
        if name == "step":
            operations = sum(measured.operations.values())
        share = "–" if operations is None or not middle else f"{operations / middle / measured.matrix_rate:.1%}"
        table.add_row(
            name, f"{middle:.3f}", f"{min(seconds):.3f}–{max(seconds):.3f}", f"{middle / total:.1%}", rate, share
        )
    console.print(table)
    _say(console, _memory_and_rate(measured))


def _memory_and_rate(measured: Measured) -> Iterator[str]:
    yield (
        f"peak memory: {measured.peak / GIB:.2f} GiB, of which {measured.working / GIB:.2f} GiB above what is held "
        "between steps"
    )
    rows, inner, columns = measured.matrix
    yield (
        f"matrix rate: {measured.matrix_rate / 1e9:,.0f} GFLOP/s, of {rows:,} × {inner:,} by {inner:,} × {columns:,}; "
        "beside it stands what the work needs, each prompt once"
    )


def _grow(
    options: Mapping[str, str], axis: str, values: Sequence[int], repeats: int, config: Config, console: Console
) -> int:
    """Measure along the axis and print a row for each value, then the exponents."""
    names = (axis, "rollouts s", "training s", "step s", "peak GiB", "working GiB")
    table, sizes, columns = text_table(names), list[float](), list[tuple[float, ...]]()
    measured = None
    for value, grown, made_up in _along(axis, values, config):
        measured = _measure({**options, **grown}, made_up, repeats)
        if measured is None:
            return 1
        seconds = (measured.rollout, measured.training, measured.step)
        sizes.append(measured.parameters if axis == "model" else value)
        columns.append((*seconds, float(measured.peak), float(measured.working)))
        memory = (f"{measured.peak / GIB:.2f}", f"{measured.working / GIB:.2f}")
        table.add_row(f"{sizes[-1]:,.0f}", *(f"{each:.3f}" for each in seconds), *memory)
        console.print(f"{axis} {sizes[-1]:,.0f}: a step takes {measured.step:.3f} s", markup=False)
    assert measured is not None
    table.add_row("exponent", *(_fitted(sizes, column) for column in zip(*columns, strict=True)))
    _say(console, _about(measured, config, repeats))
    console.print(table)
    return 0


def _fitted(sizes: Sequence[float], column: Sequence[float]) -> str:
    """The exponent; – of what is 0 somewhere, such as memory that no step took."""
    return str(exponent(sizes, column)) if min(column) > 0 else "–"


def _along(axis: str, values: Sequence[int], config: Config) -> Iterator[tuple[int, dict[str, str], dict[str, int]]]:
    """Each value of the axis, with the options and the sizes of the model that make it."""
    key, own = AXES[axis]
    if axis == "model":
        layers = values or sorted({max(1, _layers(config) * quarters // 4) for quarters in (1, 2, 4, 8, 16)})
        yield from ((each, {}, {"layers": each}) for each in layers)
    elif key:
        yield from ((each, {key: str(each)}, {}) for each in values or own)
    else:
        yield from ((each, {}, {axis: each}) for each in values or own)


def _layers(config: Config) -> int:
    # Only now: it takes seconds, and every other error is found before it.
    from unigrad.data.tiny import model_source
    from unigrad.policy import find_architecture
    from unigrad.policy.architecture import dimensions

    try:
        return dimensions(find_architecture(model_source(config.model.name_or_path))[0]).layers
    except (ValueError, OSError) as error:
        raise ConfigError(str(error)) from error
