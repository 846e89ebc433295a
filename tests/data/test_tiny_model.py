"""The packaged base model as a user meets it, and the situation that it poses."""

from __future__ import annotations

from random import Random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from unigrad.data.tiny import MODEL_PATH, tiny_problems
from unigrad.data.tiny.build import build_model, build_tokenizer, packed_batch, pretrain

LONGEST_SOLUTION = 72


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(MODEL_PATH)


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(MODEL_PATH).eval()


def solved_per_problem(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, levels: list[int], samples: int
) -> torch.Tensor:
    """i64[60]: how many of `samples` samples at temperature 1 end in the right answer."""
    problems = tiny_problems("eval", 60, seed=11, expert_error_rate=0.0, levels=levels)
    prompts = tokenizer([f"{problem.problem}\n" for problem in problems], padding=True, padding_side="left")
    torch.manual_seed(0)
    ids = model.generate(
        input_ids=torch.tensor(prompts["input_ids"]),
        attention_mask=torch.tensor(prompts["attention_mask"]),
        max_new_tokens=LONGEST_SOLUTION,
        do_sample=True,
        top_k=0,
        num_return_sequences=samples,
    )
    texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
    right = [
        text.endswith(f"\\boxed{{{problems[i // samples].answer}}}") and text.count("\\boxed") == 1
        for i, text in enumerate(texts)
    ]
    return torch.tensor(right).view(len(problems), samples).sum(1)


def test_weights_are_small_and_of_a_standard_architecture(model: LlamaForCausalLM) -> None:
    assert (MODEL_PATH / "model.safetensors").stat().st_size <= 5_000_000
    assert type(model) is LlamaForCausalLM
    assert model.dtype == torch.float32


def test_special_tokens_are_distinct_and_known_to_the_model(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    ids = (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert len(set(ids)) == 3
    assert len(tokenizer) == model.config.vocab_size
    for config in (model.config, model.generation_config):
        assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == ids


def test_a_prompt_begins_with_bos_and_a_demonstration_adds_nothing(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer("1\n")["input_ids"][0] == tokenizer.bos_token_id
    assert len(tokenizer("1\n")["input_ids"]) == 3
    boxed = tokenizer("\\boxed{68}", add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(boxed) == ["\\boxed{", "6", "8", "}"]


def test_text_survives_the_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    texts = [f"{problem.problem}\n{problem.solution}" for problem in tiny_problems("train", 200, seed=0)]
    texts.append("Solve: \\box {x_1 + 2} ?\n\n A-Z ~")
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == text


def test_the_base_solves_easy_levels_in_part_and_hard_ones_never(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    easy = solved_per_problem(model, tokenizer, levels=[1, 2], samples=4)
    assert 0.25 < easy.float().mean() / 4 < 0.65
    hard = solved_per_problem(model, tokenizer, levels=[3, 4, 5], samples=8)
    assert (hard > 0).float().mean() <= 0.05


def test_corpus_fills_the_context_and_labels_the_answers_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    ids_BT, labels_BT = packed_batch(tokenizer, Random(0), careless=True)
    assert ids_BT.shape[1] == 256
    assert (ids_BT[:, 0] == tokenizer.bos_token_id).all()
    assert ((ids_BT == tokenizer.eos_token_id).sum(1) >= 3).all()
    assert not (ids_BT == tokenizer.pad_token_id).any()
    labelled = labels_BT[0] != -100
    assert torch.equal(labels_BT[0][labelled], ids_BT[0][labelled])
    first_end = int((ids_BT[0] == tokenizer.eos_token_id).nonzero()[0])
    prompt, answer = tokenizer.decode(ids_BT[0][1 : first_end + 1]).split("\n")
    assert prompt.endswith("?")
    assert tokenizer.decode(labels_BT[0][: first_end + 1][labelled[: first_end + 1]]) == answer


def test_building_gives_the_packaged_vocabulary_and_learns(tokenizer: PreTrainedTokenizerFast) -> None:
    assert build_tokenizer().get_vocab() == tokenizer.get_vocab()
    ids_BT, labels_BT = packed_batch(tokenizer, Random(1), careless=False)
    model = build_model(tokenizer, seed=0)
    with torch.no_grad():
        before = model(input_ids=ids_BT, labels=labels_BT).loss
    pretrain(model, tokenizer, steps=3, seed=0)
    with torch.no_grad():
        after = model(input_ids=ids_BT, labels=labels_BT).loss
    assert after < before
