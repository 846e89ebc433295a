"""Prompts as the model is given them: every token accounted for."""

from __future__ import annotations

import pytest
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from unigrad.data import encode_demonstration, encode_prompt, prompt_template, render, template_names

BOS, EOS, USER, ASSISTANT = 0, 1, 3, 4


def test_texts(tokenizer: PreTrainedTokenizerFast) -> None:
    boxed = "Please reason step by step, and put your final answer within \\boxed{}."
    texts = {name: render(prompt_template(name), "1+1?", tokenizer) for name in ("plain", "boxed", "llama")}
    assert texts == {
        "plain": "1+1?\n",
        "boxed": f"1+1?\n{boxed}\n",
        "llama": f"Question:\n1+1?\n{boxed}\nAnswer:\nLet's think step by step.",
    }


def test_chat(chat_tokenizer: PreTrainedTokenizerFast) -> None:
    chat = prompt_template("chat")
    assert render(chat, "one?", chat_tokenizer) == "<bos><|user|>one?<eos><|assistant|>"
    problem_ids = chat_tokenizer("one?", add_special_tokens=False).input_ids
    assert encode_prompt(chat, "one?", chat_tokenizer) == [BOS, USER, *problem_ids, EOS, ASSISTANT]
    assert "within \\boxed{}.<eos>" in render(prompt_template("chat_boxed"), "one?", chat_tokenizer)


def test_braces_of_a_problem_are_left_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    problem = "\\frac{1}{2} {problem} {0} {}"
    assert render(prompt_template("Q: {problem} A:"), problem, tokenizer) == f"Q: {problem} A:"


@pytest.mark.parametrize("text", ["{problem}\n", "<bos>{problem}\n"])
def test_one_bos(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    bare = tokenizer("one?\n", add_special_tokens=False).input_ids
    assert encode_prompt(prompt_template(text), "one?", tokenizer) == [BOS, *bare]


def test_an_eos_that_the_tokenizer_adds_does_not_end_the_prompt(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", BOS), ("<eos>", EOS)]
    )
    assert tokenizer("one").input_ids[-1] == EOS
    bare = tokenizer("one\n", add_special_tokens=False).input_ids
    assert encode_prompt(prompt_template("plain"), "one", tokenizer) == [BOS, *bare]


def test_a_model_without_a_chat_template(tokenizer: PreTrainedTokenizerFast) -> None:
    for use in (render, encode_prompt):
        with pytest.raises(ValueError, match=r"^the prompt template 'chat' needs a chat template, .*; use 'boxed'\Z"):
            use(prompt_template("chat"), "one?", tokenizer)


def test_unknown_names() -> None:
    assert template_names() == ("plain", "boxed", "llama", "chat", "chat_boxed")
    with pytest.raises(
        ValueError, match=r"^no prompt template 'chat-boxed'; the nearest is 'chat_boxed' of plain, .*\Z"
    ):
        prompt_template("chat-boxed")


@pytest.mark.parametrize("solution", ["It is two.", "It is two.<eos>", "It is two.<eos><eos>"])
def test_a_demonstration_ends_once(tokenizer: PreTrainedTokenizerFast, solution: str) -> None:
    ids = encode_demonstration(solution, tokenizer)
    assert ids == [*tokenizer("It is two.", add_special_tokens=False).input_ids, EOS]
    assert tokenizer.decode(ids) == "It is two.<eos>"


def test_prompt_and_demonstration_are_not_tokenised_together(tokenizer: PreTrainedTokenizerFast) -> None:
    prompt_ids = encode_prompt(prompt_template("{problem}"), "It i", tokenizer)
    joined = prompt_ids + encode_demonstration("s two.", tokenizer)
    assert tokenizer.decode(joined) == "<bos>It is two.<eos>"
    assert joined != [*tokenizer("It is two.").input_ids, EOS]


def test_no_end_token(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match=r"has no EOS token\Z"):
        encode_demonstration("two", tokenizer)


def test_a_chat_template_that_would_write_todays_date_writes_a_fixed_one(
    chat_tokenizer: PreTrainedTokenizerFast,
) -> None:
    chat_tokenizer.chat_template = (
        "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
        "{{ date_string }}: {{ messages[0]['content'] }}"
    )
    template = prompt_template("chat")
    assert render(template, "1+1?", chat_tokenizer) == "26 Jul 2024: 1+1?"
    assert encode_prompt(template, "1+1?", chat_tokenizer) == chat_tokenizer("26 Jul 2024: 1+1?").input_ids[1:]
