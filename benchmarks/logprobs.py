"""Time and peak memory of token log-probs with entropies, forward and backward: in chunks against plain log_softmax.

    python benchmarks/logprobs.py [--device cuda] [--dtype bfloat16] [--tokens 512 2048] [--hidden-size 576]

Each number comes from a process of its own, so that one peak does not hide another; the memory is what the computation
adds to its inputs.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import psutil
import torch
from torch import Tensor

from unigrad.policy import token_logprobs

VOCABULARIES = (49152, 151936)
MIB = 2**20


def plain(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    logp_NV = torch.nn.functional.linear(hidden_ND, weight_VD).float().log_softmax(-1)
    return logp_NV.gather(1, targets_N[:, None])[:, 0], -(logp_NV.exp() * logp_NV).sum(-1)


METHODS: dict[str, Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "chunked": token_logprobs,
    "plain": plain,
}


def peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def held_bytes(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss


def measure(method: str, vocabulary: int, tokens: int, options: argparse.Namespace) -> dict[str, float]:
    """Seconds of the best of `options.repeats` runs, MiB above the inputs, and two numbers to compare results by."""
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    generator = torch.Generator().manual_seed(0)
    hidden_ND = torch.randn(tokens, options.hidden_size, generator=generator).to(device, dtype).requires_grad_()
    weight_VD = torch.randn(vocabulary, options.hidden_size, generator=generator).mul_(options.hidden_size**-0.5)
    weight_VD = weight_VD.to(device, dtype).requires_grad_()
    targets_N = torch.randint(vocabulary, (tokens,), generator=generator).to(device)
    held = held_bytes(device)
    seconds = []
    for _ in range(options.repeats):
        hidden_ND.grad = weight_VD.grad = None
        start = time.perf_counter()
        logp_N, entropy_N = METHODS[method](hidden_ND, weight_VD, targets_N)
        (logp_N.sum() + 0.01 * entropy_N.sum()).backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    assert weight_VD.grad is not None
    return {
        "seconds": min(seconds),
        "mib": (peak_bytes(device) - held) / MIB,
        "logp": logp_N.mean().item(),
        "grad": weight_VD.grad.float().norm().item(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--hidden-size", type=int, default=576)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--one", nargs=3, metavar=("METHOD", "VOCABULARY", "TOKENS"), help="measure one cell, print JSON"
    )
    options = parser.parse_args()
    if options.one:
        method, vocabulary, tokens = options.one
        print(json.dumps(measure(method, int(vocabulary), int(tokens), options)))
        return
    print(f"{options.device}, {options.dtype}, hidden size {options.hidden_size}, best of {options.repeats}")
    print(f"{'vocabulary':>10} {'tokens':>7} {'method':>8} {'seconds':>9} {'MiB':>8} {'mean logp':>10} {'|grad|':>9}")
    for vocabulary in VOCABULARIES:
        for tokens in options.tokens:
            for method in METHODS:
                cell = ["--one", method, str(vocabulary), str(tokens)]
                command = [sys.executable, __file__, *sys.argv[1:], *cell]
                row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                print(
                    f"{vocabulary:>10} {tokens:>7} {method:>8} {row['seconds']:>9.3f} {row['mib']:>8.0f} "
                    f"{row['logp']:>10.5f} {row['grad']:>9.4f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
