"""Equal verdicts for equal pairs: hard pairs, judged in fresh processes that run against each other on a busy machine.

    python benchmarks/verdict_stability.py                             # 2,000 pairs, three processes

The pairs are written here: powers, nested radicals, trigonometric identities, polynomials, sums, products, matrices,
intervals and integrals, of sizes around the limit, half of them right. Each process judges them in an order of its own
with `verify.timeout_seconds` as given; as many busy processes as there are cores take the processor from them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from itertools import combinations

from unigrad.verify import Submission, Verifier


def pairs(count: int) -> list[tuple[str, str]]:
    """The first `count` of an endless list, (extracted, gold): each kind in turn, right and wrong."""
    found: dict[tuple[str, str], None] = {}
    draw = random.Random(0)
    while len(found) < count:
        for kind in KINDS:
            n, m = draw.randint(2, 24), draw.randint(2, 9)
            found[kind(n, m, draw.choice(["", "", "+1"]))] = None
    return list(found)[:count]


def power(n: int, m: int, slip: str) -> tuple[str, str]:
    return rf"{m}^{{2\cdot {n}^{{{n // 4 + 1}}}}}{slip}", rf"{m * m}^{{{n}^{{{n // 4 + 1}}}}}"


def tower(n: int, m: int, slip: str) -> tuple[str, str]:
    return rf"{m}^{{{m}^{{{n}}}}}{slip}", rf"({m}^{{{m}^{{{n - 1}}}}})^{{{m}}}"


def radical(n: int, m: int, slip: str) -> tuple[str, str]:
    nested = rf"\sqrt{{{m}+" * n + rf"\sqrt{{{m}}}" + "}" * n
    return nested + slip, rf"\frac{{({nested})^{{2}}}}{{{nested}}}"


def roots(n: int, m: int, slip: str) -> tuple[str, str]:
    terms = [rf"\sqrt{{{k}}}" for k in range(m, m + n)]
    return "+".join(terms) + slip, "+".join(reversed(terms))


def denested(n: int, m: int, slip: str) -> tuple[str, str]:
    return rf"\sqrt{{{n + m}+2\sqrt{{{n * m}}}}}{slip}", rf"\sqrt{{{n}}}+\sqrt{{{m}}}"


def angles(n: int, m: int, slip: str) -> tuple[str, str]:
    return rf"\sin({n}x)\cos({m}x)+\cos({n}x)\sin({m}x){slip}", rf"\sin({n + m}x)"


def squares(n: int, m: int, slip: str) -> tuple[str, str]:
    return rf"\sin^{{{2 * m}}} x+\cos^{{2}}({n}x){slip}", rf"1+\sin^{{{2 * m}}} x-\sin^{{2}}({n}x)"


def polynomial(n: int, m: int, slip: str) -> tuple[str, str]:
    return rf"(x+{m})^{{{n}}}(x-{m})^{{{n}}}{slip}", rf"(x^{{2}}-{m * m})^{{{n}}}"


def three_variables(n: int, m: int, slip: str) -> tuple[str, str]:
    return rf"(x+{m}y+z)^{{{n}}}{slip}", rf"(x+{m}y+z)^{{{n - 1}}}(x+{m}y+z)"


def harmonic(n: int, m: int, slip: str) -> tuple[str, str]:
    return rf"\sum_{{k=1}}^{{{n * m}}} \frac{{1}}{{k}}{slip}", rf"\sum_{{k=0}}^{{{n * m - 1}}} \frac{{1}}{{k+1}}"


def rational_sum(n: int, m: int, slip: str) -> tuple[str, str]:
    return rf"\sum_{{k=1}}^{{{n}}} \frac{{{m}}}{{k+x}}{slip}", rf"\sum_{{k=2}}^{{{n + 1}}} \frac{{{m}}}{{k-1+x}}"


def product(n: int, m: int, slip: str) -> tuple[str, str]:
    return rf"\prod_{{k=1}}^{{{n}}} (x+{m}k){slip}", rf"\prod_{{k=0}}^{{{n - 1}}} (x+{m}k+{m})"


def matrix(n: int, m: int, slip: str) -> tuple[str, str]:
    size = range(n // 4 + 1)
    turned = [[rf"-\frac{{{m}^{{{k}}}-x^{{{row}}}}}{{{row + k + 1}}}" for k in size] for row in size]
    cells = [[rf"\frac{{x^{{{row}}}-{m}^{{{k}}}}}{{{row + k + 1}}}" for k in size] for row in size]
    turned[0][0] += slip
    return _matrix(turned), _matrix(cells)


def _matrix(cells: list[list[str]]) -> str:
    return r"\begin{pmatrix}" + r" \\ ".join(" & ".join(row) for row in cells) + r"\end{pmatrix}"


def factorial(n: int, m: int, slip: str) -> tuple[str, str]:
    return rf"\frac{{{n * 40}!}}{{{m}}}{slip}", rf"\frac{{{n * 40 - 1}!\cdot {n * 40}}}{{{m}}}"


def intervals(n: int, m: int, slip: str) -> tuple[str, str]:
    parts = [rf"({k}, {k}+\frac{{1}}{{{m}}})" for k in range(n)]
    return r"\cup".join(parts) + (r"\cup(99, 100)" if slip else ""), r"\cup".join(reversed(parts))


def integral(n: int, m: int, slip: str) -> tuple[str, str]:
    return rf"\int_{{0}}^{{1}} (x+{m})^{{{n}}}\,dx{slip}", rf"\frac{{{m + 1}^{{{n + 1}}}-{m}^{{{n + 1}}}}}{{{n + 1}}}"


KINDS = (
    power, tower, radical, roots, denested, angles, squares, polynomial, three_variables, harmonic, rational_sum,
    product, matrix, factorial, intervals, integral,
)  # fmt: skip


def judge(count: int, timeout_seconds: float, seed: int) -> None:
    """Prints the reasons and the seconds, in the list's order, as JSON."""
    listed = pairs(count)
    order = random.Random(seed).sample(range(count), count)
    reasons, seconds = [""] * count, [0.0] * count
    with Verifier(timeout_seconds, workers=1) as verifier:
        for index in order:
            extracted, gold = listed[index]
            start = time.perf_counter()
            verdict = verifier.verify_batch([Submission(rf"\boxed{{{extracted}}}", gold)])[0]
            reasons[index], seconds[index] = str(verdict.reason), time.perf_counter() - start
    print(json.dumps([reasons, seconds]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=2_000)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--timeout-seconds", type=float, default=1.0)
    parser.add_argument("--judge", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.judge is not None:
        judge(arguments.pairs, arguments.timeout_seconds, arguments.judge)
        return

    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    start = time.perf_counter()
    try:
        command = [sys.executable, __file__, *sys.argv[1:], "--judge"]
        runs = [
            subprocess.Popen([*command, str(seed)], stdout=subprocess.PIPE, text=True)
            for seed in range(arguments.processes)
        ]
        results = [json.loads(run.communicate()[0]) for run in runs]
    finally:
        for process in busy:
            process.kill()
    listed = pairs(arguments.pairs)
    print(f"{len(listed)} pairs in {arguments.processes} fresh processes, {time.perf_counter() - start:.0f} s in all")
    for reasons, seconds in results:
        ordered = sorted(seconds)
        print(
            f"{dict(Counter(reasons).most_common())}; a pair: median {1e3 * ordered[len(ordered) // 2]:.0f} ms, "
            f"p99 {1e3 * ordered[int(0.99 * len(ordered))]:.0f} ms, most {ordered[-1]:.1f} s"
        )
    unequal = [index for index in range(len(listed)) if len({reasons[index] for reasons, _ in results}) > 1]
    print(f"unequal: {len(unequal)}")
    for first, second in combinations(results, 2):
        for reason, count in Counter(
            " / ".join(sorted((first[0][index], second[0][index])))
            for index in unequal
            if first[0][index] != second[0][index]
        ).items():
            print(f"  {reason}: {count}")
    for index in unequal:
        print(f"  {[reasons[index] for reasons, _ in results]} {listed[index]}")


if __name__ == "__main__":
    main()
