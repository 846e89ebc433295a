"""What the tables of bias_variance.py say, in words that follow from their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bias_variance import Errors

    Table = Mapping[str, Sequence[Errors | None]]

NOTHING = 1e-6
"""A relative difference below which two numbers are the same."""


def change(what: str, before: float, after: float) -> str:
    """How a number changes, in words that say which way."""
    if abs(after - before) <= NOTHING * max(abs(before), abs(after), 1.0):
        return f"leaves the {what} at {after:.2f}"
    return f"{'raises' if after > before else 'lowers'} the {what} from {before:.2f} to {after:.2f}"


def listed(names: Sequence[str]) -> str:
    """Names with commas between, or `none`."""
    return ", ".join(f"`{name}`" for name in names) or "none"


def columns(table: Table, name: str) -> list[Errors]:
    return [each for each in table[name] if each is not None]


def step(table: Table, before: str, after: str, why: str) -> str:
    """What going from one row to another does, at the last column."""
    a, b = columns(table, before)[-1], columns(table, after)[-1]
    return f"- {why} {change('bias', a.bias, b.bias)} and {change('deviation', a.deviation, b.deviation)}."


def off_policy_conclusions(table: Table) -> str:
    """table: each algorithm's errors by distance of π_θ from π_old, on-policy first."""
    first = {name: columns(table, name)[0] for name in table}
    last = {name: columns(table, name)[-1] for name in table}
    biased = sorted((name for name in table if first[name].bias > NOTHING), key=lambda name: -first[name].bias)
    exact = [name for name in table if all(each.bias <= NOTHING for each in columns(table, name))]
    by_error = sorted(table, key=lambda name: last[name].mean_squared_error)
    helpful = [name for name in by_error if last[name].mean_squared_error < 1]
    biased_most = max(table, key=lambda name: last[name].bias)
    wider = [
        index
        for index, (narrow, wide) in enumerate(zip(columns(table, "grpo"), columns(table, "dapo"), strict=True))
        if wide.bias < narrow.bias - NOTHING
    ]
    lines = [
        f"- On-policy these are biased, most first: {listed(biased)}.",
        f"- Exact at every distance: {listed(exact)}.",
        *(
            f"- `{name}` pays for it: distance {change('deviation', first[name].deviation, last[name].deviation)}."
            for name in exact
        ),
        f"- At the largest distance the most biased is `{biased_most}` ({last[biased_most].bias:.2f}).",
        f"- The least errors there are those of {listed(by_error[:3])}.",
        f"- Below 1, the error of no gradient at all, are there: {listed(helpful)}.",
        "",
        "At the largest distance, one part of the estimator at a time:",
        "",
        step(table, "rloo_sequence, unclipped", "rloo_sequence", "clipping the row's whole ratio"),
        step(table, "rloo", "grpo", "clipping a token's ratio (`rloo` to `grpo`)"),
        step(table, "grpo", "cispo", "capping it instead (`grpo` to `cispo`)"),
        step(table, "gspo", "gspo, clip 0.2", "bounds of 0.2 in place of `gspo`'s own"),
        step(table, "dr_grpo", "grpo", "the z-score, of one question alone,"),
        f"- `dapo`'s wider bound has less bias than `grpo`'s in {len(wider)} of {len(columns(table, 'grpo'))} columns.",
        "",
        *ppo_against_reinforce(first, last),
    ]
    return "\n".join(lines)


def ppo_against_reinforce(first: Mapping[str, Errors], last: Mapping[str, Errors]) -> list[str]:
    """§3.3 says that PPO's reference policy lowers REINFORCE's variance."""

    def seen(at: Mapping[str, Errors]) -> str:
        lower = at["ppo"].deviation < at["reinforce"].deviation - NOTHING
        return f"{'seen' if lower else 'not seen'} ({at['reinforce'].deviation:.2f} to {at['ppo'].deviation:.2f})"

    return [
        f"§3.3 has REINFORCE's variance high and PPO's lower. Here, on-policy: {seen(first)}; at the largest distance: "
        f"{seen(last)}. On-policy the two references are the same, so that what differs there is the baseline:",
        f"`grpo`'s group has a deviation of {first['grpo'].deviation:.2f}, `ppo`'s exact values of "
        f"{first['ppo'].deviation:.2f}, ±1 of {first['reinforce'].deviation:.2f}.",
    ]


def mixed_conclusions(table: Table, common: float) -> str:
    """table: each mixture's errors by the share of demonstrations. common: the relative distance from Eq. 1's mean."""
    alone = columns(table, "reinforce + sft")
    lowest = min(range(len(alone)), key=lambda index: alone[index].mean_squared_error)
    at = -2  # the largest share at which every mixture has rollouts
    by_bias = sorted(table, key=lambda name: table[name][at].bias if table[name][at] else 0.0)  # type: ignore[union-attr]
    silent = [name for name, row in table.items() if row[-1] is None]
    equal = "is" if common <= NOTHING else "is NOT"
    lines = [
        f"- Demonstrations in place of rollouts, `reinforce + sft`: it "
        f"{change('bias', alone[0].bias, alone[-1].bias)} and "
        f"{change('deviation', alone[0].deviation, alone[-1].deviation)}.",
        f"- Its error is the lowest at {lowest}/{len(alone) - 1}.",
        f"- That bias {equal} another objective's gradient alone: with a share s it expects 2(1−s)·∇J_μ of Eq. 1 with "
        f"μ = s/(2(1−s)), here to {common:.0e}.",
        f"- At the last share with rollouts, the least bent first: {listed(by_bias)}.",
        f"- Of demonstrations alone these learn nothing, since every advantage is 0: {listed(silent)}.",
    ]
    for name, row in table.items():
        there = [each for each in row if each is not None]
        error = change("error", there[0].mean_squared_error, there[-1].mean_squared_error)
        lines.append(f"- `{name}`: from its first column to its last it {error}.")
    return "\n".join(lines)
