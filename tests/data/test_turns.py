"""Where a completion begins and ends, by the chat templates of each family."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from at_once import AtOnce
from transformers import PreTrainedTokenizerFast

from unigrad.data import encode_demonstration, encode_prompt, prepare_problems, prompt_template, render, turn_of
from unigrad.types import Attempt, Problem, Reason, Score, Verdict

GEMMA = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
PHI = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)
GLM = (
    "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }}[/INST]"
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
# An empty thought before every answer but a prompt's, and the thoughts of earlier ones cut off.
QWEN3 = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}<think>\n\n</think>\n\n"
    "{{ m.content.split('</think>')[-1] }}{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
R1 = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|><think>\n{{ '' }}{% endif %}"
)
ALPACA = (
    "{% for m in messages %}### {{ 'Instruction' if m.role == 'user' else 'Response' }}:\n{{ m.content }}\n\n"
    "{% endfor %}{% if add_generation_prompt %}### Response:\n{{ '' }}{% endif %}"
)


def made(
    tokenizer: PreTrainedTokenizerFast, template: str, *markers: str, eos: str = "<eos>"
) -> PreTrainedTokenizerFast:
    tokenizer.add_special_tokens({"additional_special_tokens": list(markers)})
    tokenizer.eos_token = eos
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("name", ["chat", "chat_boxed"])
@pytest.mark.parametrize(
    ("template", "markers", "end"),
    [
        (GEMMA, ("<start_of_turn>", "<end_of_turn>"), "<end_of_turn>"),
        (PHI, ("<|end|>",), "<|end|>"),
        (GLM, ("[gMASK]", "<sop>"), "<|user|>"),
        (CHATML, ("<|im_start|>", "<|im_end|>"), "<|im_end|>"),
        (LLAMA, ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), "<|eot_id|>"),
        (QWEN3, ("<|im_start|>", "<|im_end|>", "<think>", "</think>"), "<|im_end|>"),
        (MISTRAL, ("[INST]", "[/INST]"), "<eos>"),
        (R1, (), "<eos>"),
        (ALPACA, (), "<eos>"),
    ],
)
def test_a_turn_ends_as_its_chat_template_ends_it(
    tokenizer: PreTrainedTokenizerFast, template: str, markers: tuple[str, ...], end: str, name: str
) -> None:
    tokenizer = made(tokenizer, template, *markers)
    turn = turn_of(prompt_template(name), tokenizer)
    assert turn.end_id == tokenizer.convert_tokens_to_ids(end)
    bare = tokenizer("It is two.", add_special_tokens=False).input_ids
    for written in ("", end, f"{end}\n", "<eos>", f"{end}<eos>", f"{end}\n<eos>\n"):
        ids = encode_demonstration(f"It is two.{written}", tokenizer, turn)
        assert ids == [*bare, turn.end_id] == encode_demonstration(f"It is two.{written}", tokenizer)
        assert turn.completion(f"It is two.{written}") == "It is two."
    differs = (
        f"the chat template ends a turn with {end!r}, the tokenizer's EOS is '<eos>': "
        "demonstrations end with the former, rollouts stop at either"
    )
    assert turn.note == (None if end == "<eos>" else differs)


def test_without_the_chat_template_the_eos_ends_it(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer = made(tokenizer, CHATML, "<|im_start|>", "<|im_end|>")
    for name in ("plain", "boxed", "llama", "Q: {problem}\nA:"):
        turn = turn_of(prompt_template(name), tokenizer)
        assert (turn.end_id, turn.note) == (tokenizer.eos_token_id, None)
        assert encode_demonstration("two", tokenizer, turn)[-1] == tokenizer.eos_token_id


def test_the_end_of_a_turn_may_be_the_only_one(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer = made(tokenizer, CHATML, "<|im_start|>", "<|im_end|>")
    tokenizer.eos_token = None
    assert encode_demonstration("two", tokenizer)[-1] == tokenizer.convert_tokens_to_ids("<|im_end|>")
    with pytest.raises(ValueError, match=r"has no EOS token\Z"):
        encode_demonstration("two", tokenizer, turn_of(prompt_template("plain"), tokenizer))


def test_an_end_that_no_template_shows_can_be_named(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer = made(tokenizer, R1, "<|im_end|>")
    for name in ("chat", "plain"):
        template = prompt_template(name)
        assert turn_of(template, tokenizer).end_id == tokenizer.eos_token_id
        turn = turn_of(template, tokenizer, "<|im_end|>")
        end = tokenizer.convert_tokens_to_ids("<|im_end|>")
        (prepared,) = prepare_problems(
            [Problem(id="1", problem="2+2?", answer="4", solution="It is two.<eos>")],
            template,
            tokenizer,
            max_prompt_length=99,
            max_demonstration_length=99,
            scorer=AtOnce(lambda attempts: [Score(1.0, Verdict(True, None, Reason.RIGHT)) for _ in attempts]),
            turn=turn,
        ).problems
        assert prepared.demonstration is not None
        assert (prepared.demonstration.text, prepared.demonstration.completion_ids[-1]) == ("It is two.", end)
        assert (turn.opening, turn.note) == (turn_of(template, tokenizer).opening, None)
    line = r"data\.end_of_turn: '<\|im_edn\|>' is no token of this model; the nearest is '<\|im_end\|>'\Z"
    with pytest.raises(ValueError, match=line):
        turn_of(prompt_template("chat"), tokenizer, "<|im_edn|>")


def test_a_marker_that_the_vocabulary_holds_as_a_word(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer.chat_template = CHATML
    assert turn_of(prompt_template("chat"), tokenizer).end_id == tokenizer.convert_tokens_to_ids("<|im_end|>")


@pytest.mark.parametrize(
    ("template", "note"),
    [
        # The markers of another family's tokenizer: several tokens each.
        (CHATML, "the chat template ends a turn with '<|im_end|>', which is no token: "),
        (
            "{% for m in messages %}{% if m.role == 'assistant' %}{{ raise_exception('one question only') }}{% endif %}"
            "{{ m.content }}{% endfor %}",
            "the chat template shows no end of a turn: the chat template of this model raises TemplateError: one "
            "question only; use the prompt template 'boxed', or mend the model's chat template; ",
        ),
        (
            "{{ messages[0].content }}",
            "the chat template shows no end of a turn: it leaves out the assistant's words; ",
        ),
    ],
)
def test_an_end_that_cannot_be_found_is_said(tokenizer: PreTrainedTokenizerFast, template: str, note: str) -> None:
    tokenizer.chat_template = template
    turn = turn_of(prompt_template("chat"), tokenizer)
    assert turn.note == f"{note}completions end with the tokenizer's EOS, '<eos>'"
    assert turn.end_id == tokenizer.eos_token_id


OPENED = "{{ messages[0].content }}|A:"


@pytest.mark.parametrize(
    ("opened", "solution", "joined"),
    [
        ("<think>\n", "<think>\nfour</think> 4", "<think>\nfour</think> 4"),
        ("<think>\n", "<think>four</think> 4", "<think>\nfour</think> 4"),
        ("<think>\n", "<think> four</think> 4", "<think>\nfour</think> 4"),
        ("<think>\n", "\n<think>\n\nfour</think> 4", "<think>\n\nfour</think> 4"),
        ("<think>", "<think>\nfour</think> 4", "<think>\nfour</think> 4"),
        ("<think>\n\n", "<think>\nfour</think> 4", "<think>\n\nfour</think> 4"),
        ("<think>\n", "<think>\n<think>\nfour</think> 4", "<think>\nfour</think> 4"),
        ("<think>\n", "four</think> 4", "<think>\nfour</think> 4"),
        ("<think>\n", "<think>", "<think>\n"),
        ("<reasoning>\n", "<reasoning>\nfour</reasoning> 4", "<reasoning>\nfour</reasoning> 4"),
        ("[THINK]", "[THINK]four[/THINK]4", "[THINK]four[/THINK]4"),
        ("<|assistant|><think>\n", "<think>\nfour", "<|assistant|><think>\nfour"),
        ("<|assistant|>\n<think>\n", "<|assistant|>\n<think>\nfour", "<|assistant|>\n<think>\nfour"),
        ("\n<think>\n\n</think>\n\n", "<think></think>four", "\n<think>\n\n</think>\n\nfour"),
        ("\n### Response:\n", "### Response: four", "\n### Response:\nfour"),
        # What only looks alike stays.
        ("<think>\n", "<thinking>\nfour", "<think>\n<thinking>\nfour"),
        ("<think>\n", "> a quote", "<think>\n> a quote"),
        ("<think>\n", "Let me <think>", "<think>\nLet me <think>"),
        ("\nAnswer", "Answers vary", "\nAnswerAnswers vary"),
        ("\n<start_of_turn>model\n", "model four", "\n<start_of_turn>model\nmodel four"),
        ("\n.", ".5", "\n..5"),
        ("", "<think>\nfour", "<think>\nfour"),
    ],
)
def test_what_the_prompt_opened_stands_once(
    tokenizer: PreTrainedTokenizerFast, opened: str, solution: str, joined: str
) -> None:
    def score(attempts: Sequence[Attempt]) -> list[Score]:
        return [Score(1.0, Verdict(True, None, Reason.RIGHT)) for _ in attempts]

    problem = Problem(id="p", problem="2+2?", answer="4", solution=solution)
    # Jinja leaves out a line break that ends its source, and so must it be written as an expression.
    tokenizer.chat_template = OPENED + f"{{{{ {opened!r} }}}}"
    for template in (prompt_template("chat"), prompt_template("{problem}|A:" + opened)):
        (prepared,) = prepare_problems(
            [problem], template, tokenizer, max_prompt_length=99, max_demonstration_length=99, scorer=AtOnce(score)
        ).problems
        assert prepared.prompt == f"2+2?|A:{opened}" == render(template, "2+2?", tokenizer)
        assert prepared.prompt_ids == tuple(encode_prompt(template, "2+2?", tokenizer))
        demonstration = prepared.demonstration
        assert demonstration is not None
        assert prepared.prompt + demonstration.text == f"2+2?|A:{joined}"
        assert tokenizer.decode(demonstration.completion_ids) == f"{demonstration.text}<eos>"
        turn = turn_of(template, tokenizer)
        assert turn.completion(demonstration.text) == demonstration.text


@pytest.mark.parametrize("empty", ["<think>\n\n</think>\n\n", "<think></think>", "</think>\n"])
def test_a_thought_behind_one_that_is_over_is_refused(tokenizer: PreTrainedTokenizerFast, empty: str) -> None:
    hasty = CHATML.replace("assistant\n{% endif %}", f"assistant\n{empty}{{{{ '' }}}}{{% endif %}}")
    made(tokenizer, hasty, "<|im_start|>", "<|im_end|>")

    def completion(solution: str) -> str:
        problems = [Problem(id="p7", problem="1+1?", answer="2", solution=solution)]
        limits = {"max_prompt_length": 200, "max_demonstration_length": 200}
        scorer = AtOnce(lambda attempts: [Score(1.0, Verdict(True, "2", Reason.RIGHT)) for _ in attempts])
        prepared = prepare_problems(problems, prompt_template("chat"), tokenizer, **limits, scorer=scorer)
        demonstration = prepared.problems[0].demonstration
        assert demonstration is not None
        return demonstration.text

    message = r"^the demonstration of problem p7 begins with <think>, but the prompt template has written a thought"
    for begins in ("<think>\nHmm.\n</think>\n2", "\n<think>Hmm.</think>2"):
        with pytest.raises(ValueError, match=message):
            completion(begins)
    for fine in ("2", "<thinking>Hmm.</thinking>2", "It is <think> 2", f"{empty}2"):
        assert completion(fine).endswith("2")
