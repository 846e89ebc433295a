"""Decoding of the torch engine with the model's forward pass as it is and compiled by torch.compile, in turn.

    python benchmarks/compiled.py [MODEL] [--layers N] [--samples N]

Both sample 4 prompts of 16 to 40 tokens × --samples completions of at most 80 tokens, in float32 on one thread; tokens
per second of CPU time. The engine packs weights where it does; the compiled pass has them plain: it would be compiled
anew for each update's copies. `--layers N` takes a random model of MODEL's sizes, so many layers and 8,192 tokens.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
import torch._dynamo
from torch._dynamo.utils import counters
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

import unigrad
from unigrad.policy import load_policy
from unigrad.rollout import Prompt, Sampling, TorchEngine, torch_engine

EMBEDDED = Path(unigrad.__file__).parent / "data" / "tiny" / "model"
VOCABULARY = 8192


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default=str(EMBEDDED), help="a folder with a model; none: the embedded one")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    # Else the position that a cache's layer stands at would be part of what is compiled.
    torch._dynamo.config.allow_unspec_int_on_nn_module = True
    policy = load_policy(str(EMBEDDED) if arguments.layers else arguments.model)
    model = random_model(arguments.model, arguments.layers) if arguments.layers else policy.model
    rows = model.get_input_embeddings().weight.shape[0]
    ids = {length: [(7 * index + 3 * length) % rows for index in range(length)] for length in (16, 24, 32, 40)}
    prompts = [Prompt(str(length), tuple(each)) for length, each in ids.items()]
    sampling = Sampling(num_generations=arguments.samples, max_completion_length=80)
    engine = TorchEngine(model, policy.tokenizer, max_concurrent_tokens=2**20)
    compiled = torch.compile(model.forward, dynamic=True)
    worth_packing = torch_engine._WORTH_PACKING

    def sampled(seed: int, *, compile: bool) -> tuple[float, list[list[float]]]:
        """Tokens a second of CPU time, and each completion's log-probs."""
        if compile:
            model.forward = compiled
            torch_engine._WORTH_PACKING = sampling.max_completion_length + 1
        start = time.process_time()
        try:
            groups = engine.generate(prompts, sampling, seed)
        finally:
            vars(model).pop("forward", None)
            torch_engine._WORTH_PACKING = worth_packing
        logprobs = [list(each.logprobs) for group in groups for each in group]
        return sum(map(len, logprobs)) / (time.process_time() - start), logprobs

    _, plain = sampled(0, compile=False)
    start = time.perf_counter()
    _, found = sampled(0, compile=True)
    print(f"the first compiled rollouts took {time.perf_counter() - start:.0f} s")
    same = [(a, b) for a, b in zip(plain, found, strict=True) if len(a) == len(b)]
    largest = max(abs(x - y) for a, b in same for x, y in zip(a, b, strict=True))
    print(
        f"{len(same)} of {len(plain)} completions are of equal length; their log-probs differ by at most {largest:.1e}"
    )
    ratios = []
    for seed in range(1, arguments.repeats + 1):
        (own, _), (other, _) = sampled(seed, compile=False), sampled(seed, compile=True)
        ratios.append(other / own)
        print(f"{own:.0f} and compiled {other:.0f} tokens/s: {ratios[-1]:.2f}")
    print(f"median {statistics.median(ratios):.2f}; {counters['stats']['unique_graphs']} graphs were compiled")


def random_model(name: str, layers: int) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(name)
    config.num_hidden_layers, config.vocab_size = layers, VOCABULARY
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


if __name__ == "__main__":
    main()
