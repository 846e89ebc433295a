"""A training set cut to some levels: the paper's 255 problems of §5.2."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from unigrad.config import load_config
from unigrad.data import load_problems, of_levels
from unigrad.errors import ConfigError
from unigrad.train.problem_sets import training_problems
from unigrad.types import Problem

MATH500 = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "eval" / "math500.jsonl.gz"
SIZES = {1: 4, 2: 9, 5: 7, None: 3}
PROBLEMS = [
    Problem(id=f"{level}-{number}", problem="p", answer="a", level=level)
    for number in range(9)
    for level, size in SIZES.items()
    if number < size
]


def ids(*options: object, seed: int = 0) -> list[str]:
    levels, each = options
    return [problem.id for problem in of_levels(PROBLEMS, levels, each, seed, "here")]  # type: ignore[arg-type]


def test_levels_keep_their_problems_in_their_order() -> None:
    assert ids((5, 1), None) == [each.id for each in PROBLEMS if each.level in (1, 5)]
    assert ids(None, None) == [each.id for each in PROBLEMS]


def test_the_choice_is_the_seeds_and_each_levels_own() -> None:
    chosen = ids((1, 2, 5), 3)
    assert Counter(each[0] for each in chosen) == {"1": 3, "2": 3, "5": 3}
    places = [[each.id for each in PROBLEMS].index(each) for each in chosen]
    assert places == sorted(places)
    assert [each for each in chosen if each[0] == "2"] == ids((2,), 3)
    assert ids(None, 3) == chosen
    assert len({tuple(ids((2, 5), 3, seed=seed)) for seed in range(5)}) > 3


@pytest.mark.parametrize(
    ("levels", "each", "line"),
    [
        ((2, 3), None, "data.levels: here has no problems of level 3; its levels are 1: 4, 2: 9, 5: 7"),
        (None, 5, "data.problems_per_level: here has only 4 problems of level 1; its levels are 1: 4, 2: 9, 5: 7"),
    ],
)
def test_a_level_with_too_few_is_named(levels: tuple[int, ...] | None, each: int | None, line: str) -> None:
    with pytest.raises(ValueError, match=f"^{line}$"):
        ids(levels, each)


def test_problems_without_levels_have_none() -> None:
    with pytest.raises(ValueError, match=r"no problem of here has a level \(data.columns.level names their column\)"):
        of_levels([each for each in PROBLEMS if each.level is None], (3,), None, 0, "here")


def test_a_runs_levels_are_cut_before_its_first_problems() -> None:
    keys = {"data.levels": "[4, 5]", "data.problems_per_level": "5", "tiny.train_problems": "200"}
    config = load_config("tiny", keys)
    (source,) = config.data.train_sets
    problems = training_problems(source, config)
    assert Counter(each.level for each in problems) == {4: 5, 5: 5}
    first = load_config("tiny", {**keys, "data.max_train_problems": "7"})
    assert training_problems(source, first) == problems[:7]
    with pytest.raises(ConfigError, match=r"data\.levels"):
        load_config("tiny", {"data.levels": "hard"})


def test_the_recipe_of_the_visualisation_chooses_85_of_each() -> None:
    if not MATH500.is_file():
        pytest.skip(f"{MATH500} is not here")
    data = load_config("qwen2.5-math-1.5b-grid").data
    chosen = of_levels(load_problems(str(MATH500)), data.levels, data.problems_per_level, data.level_seed, "MATH-500")
    assert Counter(each.level for each in chosen) == {3: 85, 4: 85, 5: 85}


def test_the_visualisation_is_fifty_epochs_of_hpt_or_of_grpo_after_sft() -> None:
    hpt, stages = (load_config(f"qwen2.5-math-1.5b-grid-{name}") for name in ("hpt", "sft_then_grpo"))
    assert hpt.train.max_steps * hpt.train.questions_per_step == 50 * 255
    first = stages.method.first_stage
    assert first is not None
    grpo = [step for step in range(stages.train.max_steps) if step / stages.train.max_steps >= first]
    assert len(grpo) * stages.train.questions_per_step == 50 * 255
