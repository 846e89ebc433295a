"""Rebuilds the embedded base model and its tokenizer: `python -m unigrad.data.tiny.build` (5 minutes on 2 CPU cores).

Nobody in its corpus works more than two steps: first a textbook that works them rightly and stops there, then what
people write, who also slip and guess. So the base knows the steps, lacks the discipline, and ends long chains too soon.
"""

from __future__ import annotations

import argparse
import logging
import string
import time
from pathlib import Path
from random import Random

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from unigrad.data.tiny.problems import LARGEST, LEVELS, SMALLEST, boxed, draw_chain

PAD, BOS, EOS, UNKNOWN = "<pad>", "<s>", "</s>", "<unk>"
BOXED = "\\boxed{"
CONTEXT = 256
MOST_STEPS = 2
"""Steps after which the corpus ends every solution, done or not."""
TEXTBOOK = 0.8
"""Share of the training steps that read the textbook, before the careless corpus."""
GUESSED, SLIPPED = 0.45, 0.1
"""Shares of the careless corpus that are answered by a guess and worked with a slip; the rest is worked rightly."""
GUESSES = range(50, 100)
"""How far a guess may be from the number that the problem gives: further than any answer, so that no guess is right."""
SEQUENCES_PER_STEP = 8
PEAK_LEARNING_RATE = 3e-3
WARMUP_STEPS = 100
IGNORED = -100

log = logging.getLogger(__name__)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token a printable ASCII character or line feed, and one for `\\boxed{`. Special tokens: a beginning alone."""
    vocabulary = [PAD, BOS, EOS, UNKNOWN, BOXED, "\n", *string.printable[:95]]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(vocabulary)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\\boxed\{|[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, vocabulary.index(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=0.08,  # about hidden_size^-0.5: with the usual 0.02 copying takes thousands of steps to form
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
    )
    return model


def corpus_document(rng: Random, careless: bool) -> tuple[str, str]:
    """A prompt of the train split, laid out as post-training lays it out, and somebody's answer to it."""
    while True:
        chain = draw_chain(rng.choice(LEVELS), rng)
        if chain.split == "train":
            break
    habit = rng.random() if careless else 1.0
    if habit < GUESSED:
        guesses = (chain.start + sign * distance for sign in (1, -1) for distance in GUESSES)
        answer = boxed(rng.choice([guess for guess in guesses if SMALLEST <= guess <= LARGEST]))
    elif habit < GUESSED + SLIPPED:
        answer = chain.solution(chain.draw_slip(rng, MOST_STEPS), MOST_STEPS)
    else:
        answer = chain.solution(steps=MOST_STEPS)
    return f"{chain.text}\n", answer


def packed_batch(tokenizer: PreTrainedTokenizerFast, rng: Random, careless: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and labels, i64[SEQUENCES_PER_STEP, CONTEXT] each. A sequence starts with a document and is full, its
    last document cut. Prompts are random text and bear no label."""
    ids: list[list[int]] = []
    labels: list[list[int]] = []
    for _ in range(SEQUENCES_PER_STEP):
        sequence_ids: list[int] = []
        sequence_labels: list[int] = []
        while len(sequence_ids) < CONTEXT:
            prompt, answer = corpus_document(rng, careless)
            prompt_ids = tokenizer(prompt)["input_ids"]
            answer_ids = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
            sequence_ids += [*prompt_ids, *answer_ids]
            sequence_labels += [*[IGNORED] * len(prompt_ids), *answer_ids]
        ids.append(sequence_ids[:CONTEXT])
        labels.append(sequence_labels[:CONTEXT])
    return torch.tensor(ids), torch.tensor(labels)


def pretrain(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, steps: int, seed: int) -> None:
    rng = Random(f"unigrad tiny corpus {seed}")
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / WARMUP_STEPS, total_iters=WARMUP_STEPS)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps - WARMUP_STEPS))
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, decay], milestones=[WARMUP_STEPS])
    model.train()
    began = time.monotonic()
    for step in range(1, steps + 1):
        ids_BT, labels_BT = packed_batch(tokenizer, rng, careless=step > TEXTBOOK * steps)
        loss = model(input_ids=ids_BT, labels=labels_BT).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 100 == 0:
            log.info("step %d of %d, loss %.4f, %.0f s", step, steps, loss.item(), time.monotonic() - began)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m unigrad.data.tiny.build", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "model", help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the corpus (default 0)")
    parser.add_argument("--steps", type=int, default=1000, help="optimizer steps (default 1000)")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, args.seed)
    pretrain(model, tokenizer, args.steps, args.seed)
    model.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    log.info("wrote %s: %d parameters", args.out, model.num_parameters())


if __name__ == "__main__":
    main()
