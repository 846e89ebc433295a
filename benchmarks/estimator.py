"""Time of every algorithm's advantages and weights for one batch, and its share of that batch's training step.

    python benchmarks/estimator.py MODEL [--rows 32] [--tokens 512] [--device cuda]

The step is the model's forward and backward over the same tokens, timed on `--timed-rows` of the rows and scaled up
(rows cost alike). The number to hold: under 1%.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from unigrad.estimator import algorithm, algorithm_names

GROUP = 8


def median_seconds(call: Callable[[], object], repeats: int, device: torch.device) -> float:
    def once() -> float:
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    once()
    return statistics.median(once() for _ in range(repeats))


def training_step(model: PreTrainedModel, ids: torch.Tensor) -> None:
    logits = model(input_ids=ids).logits[:, :-1]
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()  # type: ignore[no-untyped-call]
    model.zero_grad()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a folder or hub id of a causal language model")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--timed-rows", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    rows, tokens = arguments.rows, arguments.tokens
    torch.manual_seed(0)

    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).to(device)
    ids = torch.randint(model.config.vocab_size, (arguments.timed_rows, tokens), device=device)
    timed = median_seconds(lambda: training_step(model, ids), 2, device)
    step = timed * rows / arguments.timed_rows
    print(f"training step of {rows} × {tokens} tokens: {step:.2f} s ({arguments.timed_rows} rows: {timed:.2f} s)\n")

    old = -3 * torch.rand(rows, tokens, device=device)
    logp = old + 0.1 * torch.randn_like(old)
    optional = {"entropy": torch.rand_like(old), "reference_logp": old + 0.1, "engine_logp": old + 0.01}
    mask = torch.arange(tokens, device=device) < torch.randint(1, tokens + 1, (rows, 1), device=device)
    rewards = (torch.rand(rows, device=device) < 0.5).float()
    groups = torch.arange(rows, device=device) // GROUP
    values = torch.rand_like(old)

    print("| algorithm | advantages, ms | weights, ms | of a step |")
    print("|---|---|---|---|")
    for name in algorithm_names():
        alg = algorithm(name)

        def make_advantages(alg: object = alg) -> torch.Tensor:
            return alg.advantages(rewards, groups, values=values, mask=mask)  # type: ignore[attr-defined, no-any-return]

        adv = make_advantages()
        first = median_seconds(make_advantages, arguments.repeats, device)
        second = median_seconds(
            lambda alg=alg, adv=adv: alg.weights(logp, old, adv, mask, groups=groups, **optional),  # type: ignore[misc]
            arguments.repeats,
            device,
        )
        print(f"| {name} | {1e3 * first:.2f} | {1e3 * second:.2f} | {(first + second) / step:.3%} |")


if __name__ == "__main__":
    main()
