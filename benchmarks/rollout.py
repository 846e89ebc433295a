"""Tokens per second of TorchEngine and of transformers' generate, in one process, on the same prompts.

    python benchmarks/rollout.py MODEL_DIR

Both sample 4 prompts × 8 completions × 64 tokens at temperature 1 in float32; the model's end tokens are taken away, so
that both really make all of them. The repeats alternate; the median of the ratios is the number to hold (at least 1.5).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from unigrad.rollout import Prompt, Sampling, TorchEngine

QUESTIONS = (
    "A baker fills 12 trays with 18 rolls each and sells three quarters of the rolls before noon. In the afternoon "
    "she bakes 4 more trays and sells half of what she then has. How many rolls are left in the evening?",
    "Tom reads 15 pages of a book on Monday, twice as many on Tuesday and 10 fewer than on Tuesday on each of the "
    "other five days of the week. How many pages does he read in the week?",
    "A tank holds 240 litres. One pipe fills it at 16 litres a minute while a leak loses 4 litres a minute. After 8 "
    "minutes the leak is closed. How many minutes does it take to fill the tank from empty?",
    "Anna has 5 dollars more than Ben, and Ben has three times as much as Clara. Together they have 68 dollars. After "
    "Anna gives a quarter of her money to Clara, how much does Clara have?",
)
SUFFIX = "\nPlease reason step by step, and put your final answer within \\boxed{}."
COMPLETIONS, NEW_TOKENS = 8, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a folder or hub id of a causal language model with a chat template")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    pad_id = tokenizer.pad_token_id
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
    tokenizer.eos_token = None
    model.generation_config.eos_token_id = None

    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": question + SUFFIX}], tokenize=False, add_generation_prompt=True
        )
        for question in QUESTIONS
    ]
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    prompts = [Prompt(str(number), tuple(tokens)) for number, tokens in enumerate(ids)]
    padded = tokenizer.pad({"input_ids": ids}, return_tensors="pt")
    sampling = Sampling(num_generations=COMPLETIONS, max_completion_length=NEW_TOKENS)
    engine = TorchEngine(model, tokenizer, max_concurrent_tokens=2**20)

    def ours(seed: int) -> int:
        return sum(
            len(completion.token_ids) for group in engine.generate(prompts, sampling, seed) for completion in group
        )

    def theirs(seed: int) -> int:
        output = model.generate(
            **padded,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            num_return_sequences=COMPLETIONS,
            max_new_tokens=NEW_TOKENS,
            pad_token_id=pad_id,
        )
        return int(output.shape[0] * (output.shape[1] - padded["input_ids"].shape[1]))

    def speed(generate: Callable[[int], int], seed: int) -> float:
        start = time.perf_counter()
        return generate(seed) / (time.perf_counter() - start)

    print(f"prompts of {[len(tokens) for tokens in ids]} tokens, {arguments.threads} threads")
    speed(ours, 0), speed(theirs, 0)
    ratios = []
    for repeat in range(1, arguments.repeats + 1):
        mine, other = speed(ours, repeat), speed(theirs, repeat)
        ratios.append(mine / other)
        print(
            f"repeat {repeat}: TorchEngine {mine:.0f} tokens/s, generate {other:.0f} tokens/s, ratio {ratios[-1]:.2f}"
        )
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
