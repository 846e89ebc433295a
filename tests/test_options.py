"""One declaration of every option: what the estimator refuses, the configuration refuses, and the other way round."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, get_args

import pytest

from unigrad import options
from unigrad.config import load_config
from unigrad.config.algorithm import algorithm_section
from unigrad.errors import ConfigError
from unigrad.estimator import Algorithm, advantages, algorithm, algorithm_names, masks, references, register, registry
from unigrad.estimator.part import part
from unigrad.options import Option, all_options

HOLDERS = {option: name for name in algorithm_names() for option in algorithm(name).defaults()}
"""Each option of the registered algorithms, with one that has it."""
VALUES = [
    *(-math.inf, -1, -0.5, -1e-9, 0, 0.0, 1e-9, 0.5, 1, 1.0, 1.5, 2, 3.7, 1024, 10**30, math.inf, math.nan),
    *(True, False, "", "k3", "rows", "k4", "token_mean", "nothing", [1], {"a": 1}),
]


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    monkeypatch.setattr(options, "_options", dict(options._options))


def refusal(call: Callable[[], object]) -> bool:
    try:
        call()
    except ValueError:
        return True
    return False


def test_every_option_is_some_algorithms_and_every_algorithms_option_is_one() -> None:
    assert {option.name for option in all_options()} == HOLDERS.keys()


@pytest.mark.parametrize("option", all_options(), ids=lambda each: each.name)
def test_both_doors_refuse_the_same_values(option: Option) -> None:
    # Its bounds, and the numbers on either side of them.
    bounds = [each for each in (option.minimum, option.above, option.maximum) if each not in (None, math.inf)]
    near = [math.nextafter(each, to) for each in bounds for to in (-math.inf, math.inf)]
    section = algorithm_section()
    for value in [*VALUES, *bounds, *near]:
        refused = refusal(lambda value=value: algorithm(HOLDERS[option.name], **{option.name: value}))
        assert refusal(lambda value=value: section.model_validate({option.name: value})) == refused, value
    accepted = get_args(option.type) or [option.default]
    assert not any(refusal(lambda value=value: section.model_validate({option.name: value})) for value in accepted)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("clip_low", "-1", "a number of at least 0"),
        ("dual_clip", "1.0", "a number above 1"),
        ("gamma", "1.5", "a number of at least 0 and at most 1"),
        ("pass_k", "0", "an integer of at least 1"),
        ("whiten", "1", "True or False"),
        ("kl_coefficient", ".inf", "a number of at least 0"),
    ],
)
def test_the_refusals_say_the_same(name: str, value: str, wanted: str) -> None:
    with pytest.raises(ConfigError, match=f"^tiny-hpt: algorithm.{name} = .*: must be {re.escape(wanted)}$"):
        load_config("tiny-hpt", {f"algorithm.{name}": value})
    number = math.inf if value == ".inf" else float(value) if "." in value else int(value)
    or_none = " or None" if name == "dual_clip" else ""
    with pytest.raises(ValueError, match=f"^option {name} must be {re.escape(wanted)}{or_none}, not "):
        algorithm(HOLDERS[name], **{name: number})


def test_a_configurations_choice_and_number_as_text() -> None:
    message = "tiny-hpt: algorithm.kl_estimator = 'k4': must be one of k1, k2, k3, abs; did you mean 'k3'?"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        load_config("tiny-hpt", {"algorithm.kl_estimator": "k4"})
    # YAML reads 1e-3 as text.
    config = load_config("tiny-hpt", {"algorithm.std_epsilon": "1e-3", "algorithm.clip_high": ".inf"})
    assert config.algorithm.model_dump(include={"std_epsilon", "clip_high"}) == {
        "std_epsilon": 1e-3,
        "clip_high": math.inf,
    }


def test_numbers_are_finite_but_where_infinity_is_a_bound_that_never_holds() -> None:
    section = algorithm_section()
    names = [option.name for option in all_options()]
    unbounded = {name for name in names if not refusal(lambda name=name: section.model_validate({name: math.inf}))}
    assert {"clip_high", "mask_high", "cap_high"} < unbounded
    assert not unbounded & {"kl_coefficient", "entropy_coefficient", "std_epsilon", "dpo_beta"}


def declared(name: str, reference: Any) -> Algorithm:
    return Algorithm(name=name, source="–", reference=reference, advantage=advantages.reward, aggregation="token_sum")


@pytest.mark.usefixtures("own_registry")
def test_a_registered_parts_options_are_keys_with_their_types_bounds_and_help() -> None:
    tempo = Option("tempo", float, 0.5, help="mine: how fast", above=0)

    @part("π_mine", options=[tempo])
    def mine(logp: Any, *, tempo: float, turns: int = 3, clip_low: float) -> Any:
        return logp * tempo + turns + clip_low

    with pytest.raises(ValueError, match="tempo"):
        algorithm_section().model_validate({"tempo": 0.25})
    register(declared("mine", mine))
    section = algorithm_section()
    given = section.model_validate({"tempo": 0.25, "turns": 2})
    assert given.model_dump(exclude_none=True, exclude={"kl_reward_coefficient"}) == {"tempo": 0.25, "turns": 2}
    assert section.model_fields["tempo"].description == "mine: how fast"
    defaults = algorithm("mine").defaults()
    assert {"tempo": 0.5, "turns": 3, "clip_low": 0.2}.items() <= defaults.items()
    for key, value in (("tempo", 0), ("turns", 2.5), ("turns", True)):
        assert refusal(lambda key=key, value=value: section.model_validate({key: value}))
        assert refusal(lambda key=key, value=value: algorithm("mine", **{key: value}))


@pytest.mark.usefixtures("own_registry")
def test_a_name_has_one_declaration() -> None:
    @part("π_mine")
    def mine(logp: Any, *, clip_low: float = 0.5) -> Any:
        return logp

    message = (
        "option clip_low is there already, a number of at least 0 and 0.2 by default; give the other one another name"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        register(declared("mine", mine))
    assert "mine" not in algorithm_names()

    @part("π_same")
    def same(logp: Any, *, clip_low: float = 0.2, dual_clip: float | None = None) -> Any:
        return logp

    # The same type and default are the same option, with its bounds.
    register(declared("same", same))
    assert refusal(lambda: algorithm("same", clip_low=-1))
    assert refusal(lambda: algorithm("same", dual_clip=1.0))


@pytest.mark.usefixtures("own_registry")
def test_two_parts_of_one_algorithm_may_not_mean_different_options_by_one_name() -> None:
    @part("soft")
    def soft(ratio: Any, *, width: float = 0.1) -> Any:
        return ratio < width

    @part("hard")
    def hard(ratio: Any, *, width: float = 0.2) -> Any:
        return ratio < width

    with pytest.raises(ValueError, match=r"^option width is there already, a number and 0.1 by default; "):
        Algorithm(
            name="twice",
            source="–",
            reference=references.rollout,
            advantage=advantages.reward,
            masks=(masks.ppo_clip, soft, hard),
            aggregation="token_sum",
        )


@pytest.mark.usefixtures("own_registry")
def test_what_an_option_lacks_is_named() -> None:
    @part("π_mine")
    def undeclared(logp: Any, *, tempo: float) -> Any:
        return logp

    with pytest.raises(
        ValueError, match=r"^undeclared has an option 'tempo' that is declared nowhere; give it a defau"
    ):
        declared("mine", undeclared)

    @part("π_mine")
    def mistyped(logp: Any, *, tempo: list[int] | None = None) -> Any:
        return logp

    with pytest.raises(ValueError, match=r"^option tempo: its type must be int, float, bool, str or a Literal$"):
        declared("mine", mistyped)

    @part("π_mine")
    def named(logp: Any, *, offline_aggregation: float = 1.0) -> Any:
        return logp

    register(declared("named", named))
    with pytest.raises(ConfigError, match=r"an option cannot be named 'offline_aggregation': that is a key"):
        algorithm_section()
