"""Exact bias, variance and mean squared error of Table 1's rows on a policy whose every trajectory is listed (§3.3).

    python benchmarks/bias_variance.py [--out docs/results]

Writes bias_variance.md and bias_variance.png. No sampling: every number is a sum over all possible batches.
Shapes: N trajectories, T tokens, S states, P parameters, C batches, G rows.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import fmean

import matplotlib.pyplot as plt
import torch
from conclusions import mixed_conclusions, off_policy_conclusions
from enumerable import Estimates, Tree, batches, row_gradients
from matplotlib.axes import Axes
from torch import Tensor

from unigrad.estimator import Algorithm, algorithm, algorithm_names

PROBLEMS = 5
DISTANCES = (0.0, 0.1, 0.3, 1.0)
ROWS = 4
OFFLINE = ("sft", "srft", "srft_sft", "luffy", "luffy_split", "dft", "chord_phi")


@dataclass(frozen=True)
class Errors:
    """Relative to the exact gradient's norm, for the estimator times one constant (its learning rate, so to speak)."""

    bias: float
    deviation: float
    mean_squared_error: float

    def __str__(self) -> str:
        return f"{self.bias:.2f} / {self.deviation:.2f} / {self.mean_squared_error:.2f}"


class Problem:
    """One question: a random policy, a random π_old beside it, rewards of 0 and 1, and right demonstrations."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.tree = Tree(vocabulary=3, depth=3)

        def normal() -> Tensor:
            return torch.randn(self.tree.shape, generator=generator, dtype=torch.float64)

        self.logits, self.away, demonstrator = normal(), normal(), normal()
        count = len(self.tree.trajectories)
        self.rewards_N = (torch.rand(count, generator=generator) < 0.4).double()
        solved = self.tree.probabilities(demonstrator) * self.rewards_N
        self.demonstrations_N = solved / solved.sum()
        p, scores_NP = self.tree.probabilities(self.logits), self.tree.scores(self.logits).sum(dim=1)
        self.success = float(p @ self.rewards_N)
        self.exact = (p * self.rewards_N) @ scores_NP
        self.imitation = self.demonstrations_N @ scores_NP

    def old(self, distance: float) -> Tensor:
        return self.logits + distance * self.away

    def divergence(self, distance: float) -> float:
        """KL(π_θ‖π_old) in nats a trajectory."""
        log_ratio_N = (self.tree.logp(self.logits) - self.tree.logp(self.old(distance))).sum(dim=1)
        return float(self.tree.probabilities(self.logits) @ log_ratio_N)

    def values(self, logits: Tensor) -> Tensor:
        """V of π_old, exact. f[N,T]."""
        tree, p = self.tree, self.tree.probabilities(logits)
        total, mass = torch.zeros(2, tree.shape[0], dtype=torch.float64)
        n, t = tree.mask_NT.nonzero(as_tuple=True)
        total.index_add_(0, tree.states_NT[n, t], (p * self.rewards_N)[n])
        mass.index_add_(0, tree.states_NT[n, t], p[n])
        return torch.where(tree.mask_NT, (total / mass)[tree.states_NT], 0.0)

    def gradients(
        self,
        alg: Algorithm,
        rows_CG: Tensor,
        old: Tensor,
        on_policy_G: Tensor | None = None,
        advantages_from: Algorithm | None = None,
    ) -> Tensor:
        return row_gradients(
            alg,
            self.tree,
            rows_CG,
            logits=self.logits,
            rollout_logits=old,
            rewards_N=self.rewards_N,
            reference_logits=old,
            values_NT=self.values(old),
            on_policy_G=on_policy_G,
            advantages_from=advantages_from,
        )

    def errors(self, found: Estimates, scale: float) -> Errors:
        scaled = Estimates(scale * found.gradients, found.probabilities)
        norm = float(self.exact.norm())
        return Errors(
            bias=scaled.bias(self.exact) / norm,
            deviation=scaled.variance**0.5 / norm,
            mean_squared_error=scaled.mean_squared_error(self.exact) / norm**2,
        )

    def best_scale(self, found: Estimates) -> float:
        """The constant that brings the mean nearest to the exact gradient."""
        return float(found.mean @ self.exact / found.mean.square().sum())


def online() -> dict[str, Algorithm]:
    """Table 1's rows for rollouts, all summed over tokens, so that they differ in π_ref, Â and the mask alone."""
    found = {name: algorithm(name, aggregation="token_sum") for name in algorithm_names() if name not in OFFLINE}
    found["pass_at_k"] = found["pass_at_k"].with_options(pass_k=2)
    found["rloo_sequence, unclipped"] = found["rloo_sequence"].with_options(clip_low=1.0, clip_high=float("inf"))
    found["gspo, clip 0.2"] = found["gspo"].with_options(clip_low=0.2, clip_high=0.2)
    return found


def off_policy(problem: Problem) -> dict[str, list[Errors | None]]:
    table: dict[str, list[Errors | None]] = {}
    for name, alg in online().items():
        scale = 0.0
        for distance in DISTANCES:
            old = problem.old(distance)
            rows_CG, probabilities = batches(problem.tree, (problem.tree.probabilities(old), ROWS))
            found = Estimates(problem.gradients(alg, rows_CG, old).sum(dim=1), probabilities)
            # One constant for all distances, fixed on-policy: a learning rate does not know how stale a batch is.
            scale = scale or problem.best_scale(found)
            table.setdefault(name, []).append(problem.errors(found, scale))
    return table


def mixed(problem: Problem) -> dict[str, list[Errors | None]]:
    """By share of demonstrations 0, 1/4 .. 1 in a batch of four rows; on-policy otherwise."""
    reinforce = algorithm("reinforce")
    grpo, sft = algorithm("grpo", aggregation="token_sum"), algorithm("sft", aggregation="token_sum")
    srft, luffy = algorithm("srft", aggregation="token_sum"), algorithm("luffy", aggregation="token_sum")
    pairs: dict[str, tuple[Algorithm, Algorithm, Algorithm | None]] = {
        "reinforce + sft": (reinforce, sft, None),
        "reinforce + dft": (reinforce, algorithm("dft", aggregation="token_sum"), None),
        "grpo + sft": (grpo, sft, None),
        "grpo + srft, Â over on ∪ off": (grpo, srft, srft),
        "grpo + luffy, Â over on ∪ off": (grpo, luffy, luffy),
    }
    rollouts_N = problem.tree.probabilities(problem.logits)
    table: dict[str, list[Errors | None]] = {}
    for name, (on, off, advantages_from) in pairs.items():
        for shown in range(ROWS + 1):
            on_policy_G = torch.arange(ROWS) >= shown
            draws = (problem.demonstrations_N, shown), (rollouts_N, ROWS - shown)
            rows_CG, probabilities = batches(problem.tree, *draws)
            gradients = torch.where(
                on_policy_G[:, None],
                problem.gradients(on, rows_CG, problem.logits, on_policy_G, advantages_from),
                problem.gradients(off, rows_CG, problem.logits, on_policy_G, advantages_from),
            )
            found = Estimates(gradients.sum(dim=1), probabilities)
            nothing = not bool(found.gradients.any())
            table.setdefault(name, []).append(None if nothing else problem.errors(found, problem.best_scale(found)))
    return table


def distance_from_common_objective(problem: Problem, shown: int) -> float:
    """How far the mean of reinforce + sft is from 2(1−s)·∇J_μ, μ = s/(2(1−s)), relative to ‖∇E[r]‖: Eq. 1–2."""
    share = shown / ROWS
    on_policy_G = torch.arange(ROWS) >= shown
    rows_CG, probabilities = batches(
        problem.tree, (problem.demonstrations_N, shown), (problem.tree.probabilities(problem.logits), ROWS - shown)
    )
    on = problem.gradients(algorithm("reinforce"), rows_CG, problem.logits, on_policy_G)
    off = problem.gradients(algorithm("sft", aggregation="token_sum"), rows_CG, problem.logits, on_policy_G)
    mean = Estimates(torch.where(on_policy_G[:, None], on, off).sum(dim=1), probabilities).mean
    return float((mean - 2 * (1 - share) * problem.exact - share * problem.imitation).norm() / problem.exact.norm())


def average(tables: list[dict[str, list[Errors | None]]]) -> dict[str, list[Errors | None]]:
    """Each number's mean over the problems."""

    def mean(errors: list[Errors | None]) -> Errors | None:
        there = [each for each in errors if each]
        return Errors(*(fmean(getattr(e, f.name) for e in there) for f in fields(Errors))) if there else None

    return {name: [mean(list(each)) for each in zip(*(t[name] for t in tables), strict=True)] for name in tables[0]}


def markdown(head: list[str], table: dict[str, list[Errors | None]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += [f"| {name} | " + " | ".join(str(e) if e else "–" for e in row) + " |" for name, row in table.items()]
    return "\n".join(lines)


def draw(
    path: Path, divergences: list[float], away: dict[str, list[Errors | None]], shares: dict[str, list[Errors | None]]
) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(16, 5), layout="constrained")
    shown = ("reinforce", "rloo", "rloo_sequence, unclipped", "rloo_sequence", "grpo", "cispo", "gspo, clip 0.2", "ppo")

    def lines(axis: Axes, attribute: str, title: str) -> None:
        for name in shown:
            axis.plot(divergences, [getattr(each, attribute) for each in away[name]], marker="o", label=name)
        axis.set(title=title, xlabel="KL(π_θ‖π_old), nats a trajectory", ylabel="relative to ‖∇J‖")
        axis.set_xscale("symlog", linthresh=0.01)

    lines(axes[0], "bias", "Bias as π_θ moves away from π_old")
    lines(axes[1], "deviation", "Standard deviation as π_θ moves away from π_old")
    axes[0].legend(fontsize=8)
    for name, row in shares.items():
        points = [(index / ROWS, each.bias) for index, each in enumerate(row) if each]
        axes[2].plot(*zip(*points, strict=True), marker="o", label=name)
    axes[2].set(title="Bias by share of demonstrations", xlabel="share of demonstrations", ylabel="relative to ‖∇J‖")
    axes[2].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    out = parser.parse_args().out
    torch.set_num_threads(1)
    problems = [Problem(seed) for seed in range(PROBLEMS)]
    away, shares = average([off_policy(each) for each in problems]), average([mixed(each) for each in problems])
    divergences = [fmean(each.divergence(distance) for each in problems) for distance in DISTANCES]
    out.mkdir(parents=True, exist_ok=True)
    draw(out / "bias_variance.png", divergences, away, shares)
    first = markdown(["algorithm", *(f"KL {divergence:.3f}" for divergence in divergences)], away)
    second = markdown(["rollouts + demonstrations", *(f"{k}/{ROWS}" for k in range(ROWS + 1))], shares)
    common = max(distance_from_common_objective(each, shown) for each in problems for shown in range(ROWS))
    text = TEXT.format(
        first=first,
        second=second,
        away=off_policy_conclusions(away),
        mixed=mixed_conclusions(shares, common),
        problems=PROBLEMS,
        rows=ROWS,
    )
    (out / "bias_variance.md").write_text(text)


TEXT = """# Bias and variance of Table 1's rows, exactly

Made by `python benchmarks/bias_variance.py` (minutes on one core); nothing is sampled. {problems} random problems,
each a policy of 15 trajectories of one to three tokens (a table of logits), rewards of 0 and 1, and demonstrations
that are all right. Every batch of {rows} rows is enumerated with its probability, and each estimate compared with
the exact ∇J = ∇E[r].

Each cell is **bias / standard deviation / mean squared error** of one batch's gradient, relative to ‖∇J‖ (the error
to its square), averaged over the problems; in each problem, error = bias² + deviation². A multiple of the gradient
is a learning rate, so each estimator is first multiplied by the constant that brings its mean nearest to ∇J. All
rows are summed over their tokens (`aggregation=token_sum`), so that they differ in π_ref, Â and mask alone; no
gradient at all would have error 1. `ppo` has the exact values of π_old.

![bias and variance](bias_variance.png)

## As π_θ moves away from π_old

The columns: KL(π_θ‖π_old) in nats a trajectory. The constant is the on-policy one throughout.

{first}

{away}

## As demonstrations join

On-policy rollouts; the columns are the demonstrations' share of the batch. The constant is the best at each share,
so the bias is one of direction. –: every advantage is 0.

{second}

{mixed}
"""

if __name__ == "__main__":
    main()
