"""Problems that come as chats: their system prompts and earlier turns, and what a chat template makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from unigrad.data import columns_line, fitted, load_problems, prepare_problems, prompt_template, prompted
from unigrad.types import Problem
from unigrad.verify import Verifier, VerifierScorer

SYSTEM = {"role": "system", "content": "Be brief."}
TURNS = [
    SYSTEM,
    {"role": "user", "content": "one?"},
    {"role": "assistant", "content": "two."},
    {"role": "user", "content": "and one?"},
]


def loaded(folder: Path, *rows: dict[str, Any]) -> list[Problem]:
    file = folder / "chats.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_problems(str(file))


def test_the_turns_before_the_question_are_kept(tmp_path: Path) -> None:
    shared = [{"from": turn["role"].replace("user", "human"), "value": turn["content"]} for turn in TURNS]
    problems = loaded(
        tmp_path,
        {"messages": TURNS, "answer": 3},
        {"messages": json.dumps([*TURNS, {"role": "assistant", "content": "It is 3."}]), "answer": 3},
        {"messages": shared, "answer": 3},
        {"problem": "and one?", "answer": 3},
    )
    asked = (("system", "Be brief."), ("user", "one?"), ("assistant", "two."), ("user", "and one?"))
    assert [problem.messages for problem in problems] == [asked, asked, asked, ()]
    assert [problem.problem for problem in problems] == ["and one?"] * 4
    assert [problem.context for problem in problems] == [asked[:-1]] * 3 + [()]
    assert [problem.solution for problem in problems] == [None, "It is 3.", None, None]


def test_a_chat_template_renders_them(tmp_path: Path, chat_tokenizer: PreTrainedTokenizerFast) -> None:
    (problem,) = loaded(tmp_path, {"messages": TURNS, "answer": 3})
    before = "<bos><|system|>Be brief.<eos>"
    turns = "<|user|>one?<eos><|assistant|>two.<eos>"
    after = "<|user|>and one?<eos><|assistant|>"
    for system_prompt, expected in (
        (None, before + turns + after),
        ("", "<bos>" + turns + after),
        ("Be long.", "<bos><|system|>Be long.<eos>" + turns + after),
    ):
        template, notes = fitted(prompt_template("chat"), chat_tokenizer, system_prompt=system_prompt)
        made = prompted(problem, template, chat_tokenizer)
        assert (made.prompt, notes) == (expected, [])
        assert chat_tokenizer.decode(list(made.prompt_ids)) == expected


def test_a_template_without_a_place_for_them_says_so(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    with Verifier() as verifier:
        for system_prompt, turns, count in ((None, TURNS, 1), ("", TURNS, 1), ("", [SYSTEM, TURNS[-1]], 0)):
            problems = loaded(tmp_path, {"messages": turns, "answer": 3}, {"messages": TURNS[-1:], "answer": 3})
            template, _ = fitted(prompt_template("plain"), tokenizer, system_prompt=system_prompt)
            prepared = prepare_problems(
                problems,
                template,
                tokenizer,
                max_prompt_length=99,
                max_demonstration_length=None,
                scorer=VerifierScorer(verifier),
            )
            assert prepared.report.contexts_left_out == count
            said = [line for line in prepared.report.lines() if "system prompt or earlier turns" in line]
            assert [line.startswith("WARNING: 1 problems bring a system prompt") for line in said] == [True] * count
            assert prepared.problems[0].prompt == "and one?\n"
    with pytest.raises(ValueError, match=r"^data\.system_prompt: the prompt template 'plain' is no chat"):
        fitted(prompt_template("plain"), tokenizer, system_prompt="Be brief.")


def test_a_chat_template_that_leaves_the_system_prompt_out(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    (problem,) = loaded(tmp_path, {"messages": [SYSTEM, TURNS[-1]], "answer": 3})
    for source, said in (
        ("{{ messages[-1].content }}", "leaves out the system prompt 'Be brief.'; --data.system_prompt ''"),
        (
            "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
            "{{ m.content }}{% endfor %}",
            "no system; leave out the system prompts with --data.system_prompt ''",
        ),
    ):
        tokenizer.chat_template = source
        with pytest.raises(ValueError, match=said):
            prompted(problem, prompt_template("chat"), tokenizer)
        template, _ = fitted(prompt_template("chat"), tokenizer, system_prompt="")
        assert prompted(problem, template, tokenizer).prompt == "and one?"


def test_a_text_of_ones_own_goes_into_the_chat_template(chat_tokenizer: PreTrainedTokenizerFast) -> None:
    problem = Problem(id="p", problem="one?", answer="2")
    for text, chat, expected, note in (
        ("Q: {problem}", None, "<bos><|user|>Q: one?<eos><|assistant|>", "is the user's message"),
        ("Q: {problem}", False, "Q: one?", None),
        ("<|user|>{problem}<eos>", None, "<|user|>one?<eos>", "holds special tokens"),
        ("plain", True, "<bos><|user|>one?\n<eos><|assistant|>", None),
    ):
        template, notes = fitted(prompt_template(text), chat_tokenizer, chat=chat)
        assert prompted(problem, template, chat_tokenizer).prompt == expected
        assert [note in line for line in notes if note] == [True] * (note is not None)
    chat_tokenizer.chat_template = None
    template, notes = fitted(prompt_template("Q: {problem}"), chat_tokenizer)
    assert (prompted(problem, template, chat_tokenizer).prompt, notes) == ("Q: one?", [])


def test_what_the_chat_template_is_given_besides(chat_tokenizer: PreTrainedTokenizerFast) -> None:
    chat_tokenizer.chat_template += "{% if enable_thinking is defined and not enable_thinking %}No thought.{% endif %}"
    problem = Problem(id="p", problem="one?", answer="2")
    template, notes = fitted(prompt_template("chat"), chat_tokenizer, chat_kwargs={"enable_thinking": False})
    assert prompted(problem, template, chat_tokenizer).prompt.endswith("<|assistant|>No thought.")
    assert notes == []
    for name, kwargs, said in (
        ("chat", {"enable_thinking": False, "thinkng": True}, "never reads 'thinkng'"),
        ("plain", {"enable_thinking": False}, "'plain', no chat, never reads 'enable_thinking'"),
    ):
        (note,) = fitted(prompt_template(name), chat_tokenizer, chat_kwargs=kwargs)[1]
        assert note.startswith("WARNING: data.chat_template_kwargs: ")
        assert note.endswith(said)


def test_the_columns_in_words(tmp_path: Path) -> None:
    worked = "1 + 1 = 2\n#### 2"
    for rows, said in (
        (
            [{"question": "1+1?", "answer": worked, "topic": "sums"}] * 2,
            "problem ← `question`; answer ← `answer`; demonstration ← `answer`; others, for reward functions: `topic`",
        ),
        (
            [{"problem": "1+1?", "answer": "2"}, {"problem": "1+2?", "answer": "3", "solution": "It is 3."}],
            "problem ← `problem`; answer ← `answer`; demonstration ← `solution` (1 of 2)",
        ),
        (
            [{"prompt": [SYSTEM, TURNS[-1]], "reward_model": {"ground_truth": "3"}}],
            "problem ← `prompt`; answer ← `reward_model.ground_truth`; no demonstrations; "
            "a system prompt or earlier turns in 1 of 1",
        ),
        (
            [{"problem": "1+1?", "solution": "\\boxed{2}"}],
            "problem ← `problem`; answer ← `solution`; demonstration ← `solution`",
        ),
    ):
        assert columns_line(loaded(tmp_path, *rows)) == said
    assert columns_line([Problem(id="p", problem="1+1?", answer="2")]) is None
