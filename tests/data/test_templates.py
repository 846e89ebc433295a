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


@pytest.mark.parametrize(
    ("source", "written"),
    [
        ("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024"),
        ("{{ strftime_now(format='%Y-%m-%d') }}", "2024-07-26"),
        ("{% set today = strftime_now('%A, %-d %B %Y, %H:%M') %}{{ today }}", "Friday, 26 July 2024, 00:00"),
        ("{% if strftime_now is defined %}{{ strftime_now('%j') | int + 1 }}{% endif %}", "209"),
        ("{% macro head() %}{{ strftime_now('%y').split('2')[1] }}{% endmacro %}{{ head() }}", "4"),
        ("{{ strftime_now('100%% on %%d %F') }}", "100% on %d 2024-07-26"),
        ("  {%- if true %}\n{{ strftime_now('%d') }}\n  {% endif %}", "26\n"),
    ],
)
def test_no_template_sees_todays_date(chat_tokenizer: PreTrainedTokenizerFast, source: str, written: str) -> None:
    chat_tokenizer.chat_template = source + ": {{ messages[0]['content'] }}"
    assert render(prompt_template("chat"), "1+1?", chat_tokenizer) == f"{written}: 1+1?"


def test_a_template_without_a_date_is_rendered_as_it_is(chat_tokenizer: PreTrainedTokenizerFast) -> None:
    message = [{"role": "user", "content": " 1+1?\n"}]
    expected = chat_tokenizer.apply_chat_template(message, tokenize=True, add_generation_prompt=True, return_dict=False)
    assert encode_prompt(prompt_template("chat"), " 1+1?\n", chat_tokenizer) == expected


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{ raise_exception('System role not supported') }}", "raises TemplateError: System role not supported;"),
        ("{{ raise_exception('two\n lines') }}", "raises TemplateError: two lines;"),
        ("{% for m in messages %}{{ m.content }}", "raises TemplateSyntaxError: Unexpected end of template."),
        ("{{ system.prompt }}", "raises UndefinedError: 'system' is undefined;"),
        ("{{ messages[0].content + 1 }}", "raises TypeError: can only concatenate str"),
        ("{{ 1 // 0 }}", "raises ZeroDivisionError: "),
        ("{{ strftime_now() }}", "raises UndefinedError: "),
        ("{{ messages[1].content }}", "raises UndefinedError: "),
        ("{{ bos_token }}Hello.", "leaves out the problem '1+1?', or alters it: its prompt is '<bos>Hello.';"),
        ("{{ messages[0].content[:2] }}", "leaves out the problem '1+1?', or alters it: its prompt is '1+';"),
    ],
)
def test_a_template_that_cannot_be_used_is_one_line(
    chat_tokenizer: PreTrainedTokenizerFast, source: str, said: str
) -> None:
    chat_tokenizer.chat_template = source
    for use in (render, encode_prompt):
        with pytest.raises(ValueError, match=r"^the chat template of this model .*\Z") as caught:
            use(prompt_template("chat"), "1+1?", chat_tokenizer)
        assert f"the chat template of this model {said}" in str(caught.value)
        assert str(caught.value).endswith("; use the prompt template 'boxed', or mend the model's chat template")
    # A problem's own line breaks may be set anew.
    chat_tokenizer.chat_template = "{{ messages[0].content | trim | wordwrap(3) }}"
    assert "".join(render(prompt_template("chat"), " 1 + 1?\n", chat_tokenizer).split()) == "1+1?"
