"""A user's own reward function, called as TRL calls it: f(prompts, completions, **arguments) -> list[float | None]."""

from __future__ import annotations

import inspect
import math
import reprlib
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, SupportsFloat

from unigrad.errors import RewardError, UserCodeError, did_you_mean, nearest
from unigrad.options import VERIFIER
from unigrad.plugins import import_file, import_module
from unigrad.verify.awaiting import TIMED_OUT, TimedOut, awaited, called

RewardFunction = Callable[..., Any]

FROM_PYTHON = "python:"
"""What the name of a function begins with that no other process can import, such as a notebook's."""
_handed_over: dict[str, RewardFunction] = {}


def hand_over(functions: Sequence[RewardFunction]) -> list[str]:
    """A name for each function, which `load_reward_function` knows: where it can be imported from, else a name of this
    process alone."""
    names: list[str] = []
    for function in functions:
        name = _importable(function)
        if name is None:
            own = f"{FROM_PYTHON}{function_name(function)}"
            twins = sum(each.partition("-")[0] == own for each in names)
            name = f"{own}-{twins + 1}" if twins else own
            _handed_over[name] = function
        names.append(name)
    return names


def _importable(function: RewardFunction) -> str | None:
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    found = getattr(sys.modules.get(str(module)), name, None)
    return f"{module}.{name}" if found is function and module != "__main__" else None


def load_reward_function(path: str) -> RewardFunction:
    """The function at "package.module.function" or "package.module:function", where modules of the current folder
    count, or at "folder/file.py:function".

    Raises ValueError on a path that leads to no function, and UserCodeError for whatever the module raises.
    """
    if path.startswith(FROM_PYTHON):
        if path not in _handed_over:
            raise ValueError(
                f"reward function {path!r} was handed over from Python; go on there, with "
                "unigrad.train(resume=…, reward=…)"
            )
        return _handed_over[path]
    what = f"reward function {path!r}"
    file, _, name = path.rpartition(":")
    if file.endswith(".py"):
        place, module = f"file {file!r}", import_file(file, what)
    elif path.endswith(".py"):
        raise ValueError(f"{what}: it names no function of the file; expected 'file.py:function'")
    else:
        module_name, _, name = path.replace(":", ".").rpartition(".")
        if not module_name or not name:
            meant = f", or {VERIFIER!r}" if nearest(path, [VERIFIER], cutoff=0.6) else ""
            raise ValueError(f"{what}: expected 'package.module.function' or 'file.py:function'{meant}")
        place, module = f"module {module_name!r}", import_module(module_name, what)
    if not hasattr(module, name):
        functions = [key for key, value in vars(module).items() if callable(value)]
        near = nearest(name, functions)
        advice = f"; the nearest is {near!r}" if near else ""
        raise ValueError(f"{what}: {place} has no {name!r}{advice}")
    function = getattr(module, name)
    if not callable(function):
        raise ValueError(f"{what}: {name!r} is not a function, but {type(function).__name__}")
    checked: RewardFunction = function
    return checked


def function_name(function: RewardFunction) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def score(
    function: RewardFunction, prompts: Sequence[Any], completions: Sequence[Any], arguments: Mapping[str, Any]
) -> list[float | None]:
    """The rewards of `completions`, None where the function does not score one.

    `prompts` and `completions` have one entry each for each completion; a function gets those of the `arguments` that
    its signature takes. A coroutine is awaited. Raises RewardError where the function asks for an argument that there
    is not, and on a result that is not a list, tuple, array or tensor of so many finite numbers (or None), and
    UserCodeError for whatever the function raises, a call of sys.exit too; a KeyboardInterrupt is left as it is.
    """
    (rewards,) = scores(function, [{"prompts": prompts, "completions": completions, **arguments}], None)
    assert rewards is not TIMED_OUT  # without a limit
    return rewards


def scores(
    function: RewardFunction, parts: Sequence[Mapping[str, Any]], timeout: float | None
) -> list[list[float | None] | TimedOut]:
    """As `score`, of several parts of the completions by a call each, side by side.

    A part has all arguments, `prompts` and `completions` among them. timeout: of each call, in seconds; None: none.
    """
    name = function_name(function)
    calls = [partial(_call, function, _taken(name, function, part)) for part in parts]
    results = called(calls, timeout)
    waiting = {place: result for place, result in enumerate(results) if inspect.isawaitable(result)}
    for place, result in zip(waiting, awaited(list(waiting.values()), timeout), strict=True):
        results[place] = result
    return [
        TIMED_OUT if result is TIMED_OUT else _rewards(name, result, len(part["completions"]))
        for part, result in zip(parts, results, strict=True)
    ]


def _call(function: RewardFunction, taken: Mapping[str, Any]) -> Any:
    try:
        return function(**taken)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise UserCodeError from error


def _rewards(name: str, result: Any, count: int) -> list[float | None]:
    return [_reward(name, index, value) for index, value in enumerate(_values(name, result, count))]


def _taken(name: str, function: RewardFunction, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Those of the arguments that the function takes by name: all, where it has **kwargs or shows no signature."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return arguments
    by_name = [each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    for each in by_name:
        if each.default is each.empty and each.name not in arguments:
            known = did_you_mean(each.name, arguments)
            raise RewardError(f"reward function {name!r} asks for {each.name!r}, which is no column of the data{known}")
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return arguments
    return {each.name: arguments[each.name] for each in by_name if each.name in arguments}


def _values(name: str, result: Any, count: int) -> list[Any]:
    expected = f"expected a list of {count} numbers (or None), one for each completion"
    values = result
    if hasattr(result, "tolist"):  # an array, a tensor or a series
        shape = tuple(getattr(result, "shape", ()))
        if len(shape) != 1:
            raise RewardError(f"reward function {name!r} returned {_kind(result)} of shape {shape}, {expected}")
        values = result.tolist()
    if not isinstance(values, Sequence) or isinstance(values, str | bytes | bytearray | memoryview):
        raise RewardError(f"reward function {name!r} returned {_kind(result)}, {expected}")
    if len(values) != count:
        raise RewardError(f"reward function {name!r} returned {len(values)} rewards for {count} completions")
    return list(values)


def _reward(name: str, index: int, value: object) -> float | None:
    if value is None:
        return None
    try:
        # One of an array's elements may itself be an array, of which float() makes a number in some cases.
        reward = float(value) if isinstance(value, SupportsFloat) and not getattr(value, "shape", ()) else None
    except OverflowError:
        reward = math.inf
    except (TypeError, ValueError):
        reward = None
    if reward is None:
        raise RewardError(
            f"reward function {name!r} returned {_shown(value)} at {index}, expected a number or None"
        ) from None
    if not math.isfinite(reward):
        shown = "a number too large for a float" if isinstance(value, int) else str(reward)
        raise RewardError(f"reward function {name!r} returned {shown} at {index}, expected a finite number or None")
    return reward


def _kind(value: object) -> str:
    return type(value).__name__


def _shown(value: object) -> str:
    return " ".join(reprlib.repr(value).split())
