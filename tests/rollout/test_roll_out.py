"""Problems to scored rollouts, with a real engine on a small random model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from unigrad.data import PreparedProblem, prepare_problems, prompt_template
from unigrad.rollout import Completion, Prompt, Rollouts, Sampled, Sampling, TorchEngine, roll_out
from unigrad.train.metrics import rollout_metrics
from unigrad.types import Attempt, Problem, Reason, Score, Verdict
from unigrad.verify import Verifier, VerifierScorer

WORDS = ["<eos>", *"0123456789", "?", "<think>", "</think>", "<pad>"]


def digits() -> Tokenizer:
    """A token a letter."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def engine(tokenizer: PreTrainedTokenizerFast) -> TorchEngine:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=32, eos_token_id=0, bos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    return TorchEngine(LlamaForCausalLM(config), tokenizer, max_concurrent_tokens=512)


def test_special_tokens_are_scored_in_rollouts_as_in_demonstrations() -> None:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=digits(), eos_token="<eos>", pad_token="<pad>",
        additional_special_tokens=["<think>", "</think>"],
    )  # fmt: skip
    shown: list[Attempt] = []

    class Full:
        def start(self, attempt: Attempt) -> Attempt:
            return attempt

        def finish(self, started: Sequence[Attempt]) -> list[Score]:
            shown.extend(started)
            return [Score(1.0, Verdict(True, None, Reason.REWARD_FUNCTION)) for _ in started]

    prepared = prepare_problems(
        [Problem(id="p", problem="1", answer="7", solution="<think>7</think>7<eos>")],
        prompt_template("{problem}"), tokenizer, max_prompt_length=9, max_demonstration_length=9, scorer=Full(),
    ).problems  # fmt: skip
    assert [each.completion for each in shown] == ["<think>7</think>7"]
    rollouts = roll_out(
        engine(tokenizer), Full(), prepared, Sampling(num_generations=200, max_completion_length=6), seed=0
    )
    texts = [each.text for group in rollouts.trajectories for each in group]
    assert texts == [each.completion for each in shown[1:]]
    written = [
        "".join(tokenizer.convert_ids_to_tokens(each.completion_ids))
        for group in rollouts.trajectories
        for each in group
    ]
    assert texts == [text.removesuffix("<eos>") for text in written]
    assert all(sum(token in text for text in texts) > 20 for token in ("<think>", "</think>", "<pad>"))
    assert any(text.endswith("<eos>") for text in written)


def test_a_problem_met_twice_in_a_step_gets_its_own_random_numbers() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=digits(), eos_token="<eos>")
    problem = PreparedProblem(
        problem=Problem(id="p", problem="1", answer="7"), prompt="1", prompt_ids=(2,), demonstration=None
    )
    with Verifier() as verifier:
        rollouts = roll_out(
            engine(tokenizer),
            VerifierScorer(verifier),
            [problem, problem],
            Sampling(num_generations=3, max_completion_length=8),
            seed=0,
        )
    first, second = rollouts.trajectories
    assert [each.completion_ids for each in first] != [each.completion_ids for each in second]
    for each in (*first, *second):
        # Exactly the sampled ids, the end token included; their text leaves it out.
        assert each.truncated == (each.completion_ids[-1] != 0)
        assert len(each.rollout_logprobs or ()) == len(each.completion_ids)
        assert "<eos>" not in each.text
        assert each.reward == float(each.verdict.correct)
    assert rollouts.tokens == sum(len(each.completion_ids) for each in (*first, *second))
    assert rollouts.entropy > 0


def test_scoring_begins_with_each_completion_and_scores_keep_the_order() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=digits(), eos_token="<eos>")
    happened: list[tuple[str, object]] = []

    class Watching:
        def start(self, attempt: Attempt) -> str:
            happened.append(("start", attempt.completion))
            return attempt.completion

        def finish(self, started: Sequence[str]) -> list[Score]:
            happened.append(("finish", len(started)))
            return [Score(len(text), Verdict(False, None, Reason.REWARD_FUNCTION)) for text in started]

    class Stepping(TorchEngine):
        def _step(self, *arguments: object) -> dict[int, Completion]:
            happened.append(("decode", None))
            return super()._step(*arguments)  # type: ignore[arg-type]

    stepping = Stepping(engine(tokenizer)._model, tokenizer, max_concurrent_tokens=512)
    problems = [
        PreparedProblem(Problem(id=name, problem="1", answer="7"), "1", (2,), demonstration=None) for name in "ab"
    ]
    sampled: list[Sampled] = []
    rollouts = roll_out(
        stepping, Watching(), problems, Sampling(num_generations=8, max_completion_length=12), 0, sampled.append
    )
    kinds = [kind for kind, _ in happened]
    # Some ended, and began to be scored, long before the last was sampled; all were finished together.
    assert kinds.index("start") < len(kinds) - kinds[::-1].index("decode") - 1
    assert (kinds.count("start"), kinds.count("finish"), happened[-1]) == (16, 1, ("finish", 16))
    for problem, group in enumerate(rollouts.trajectories):
        assert [each.reward for each in group] == [len(each.text) for each in group]
        told = sorted((each for each in sampled if each.problem == problem), key=lambda each: each.index)
        assert [each.completion.text for each in told] == [each.text for each in group]
    assert [each.index for each in sampled] != sorted(each.index for each in sampled)


def test_parts_of_several_ranks_are_one() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=digits(), eos_token="<eos>")
    problems = [
        PreparedProblem(Problem(id=name, problem="1", answer="7"), "1", (2,), demonstration=None) for name in "abc"
    ]
    sampling = Sampling(num_generations=2, max_completion_length=8)
    with Verifier() as verifier:
        whole, first, second = (
            roll_out(engine(tokenizer), VerifierScorer(verifier), part, sampling, seed=0)
            for part in (problems, problems[:1], problems[1:])
        )
    joined = Rollouts.of_all([first, second])
    assert [[each.completion_ids for each in group] for group in joined.trajectories] == [
        [each.completion_ids for each in group] for group in whole.trajectories
    ]
    assert joined.tokens == whole.tokens
    assert abs(joined.entropy - whole.entropy) < 1e-6
    assert joined.sampling_seconds == max(first.sampling_seconds, second.sampling_seconds)


def test_an_engine_with_weights_of_its_own_may_know_no_entropies() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=digits(), eos_token="<eos>")

    class Reticent(TorchEngine):
        def generate(self, *arguments: Any, **options: Any) -> list[list[Completion]]:
            def given(prompt: Prompt, index: int, completion: Completion) -> None:
                on_completion(prompt, index, replace(completion, entropies=(), weights_version=3))

            *others, on_completion = arguments
            return super().generate(*others, given, **options)

    problems = [
        PreparedProblem(Problem(id=name, problem="1", answer="7"), "1", (2,), demonstration=None) for name in "ab"
    ]
    sampling = Sampling(num_generations=2, max_completion_length=8)
    reticent = Reticent(engine(tokenizer)._model, tokenizer, max_concurrent_tokens=512)
    with Verifier() as verifier:
        scorer = VerifierScorer(verifier)
        silent = roll_out(reticent, scorer, problems, sampling, seed=0)
        said, nothing = (roll_out(engine(tokenizer), scorer, part, sampling, seed=0) for part in (problems, []))
    assert silent.entropy is None
    assert {each.weights_version for group in silent.trajectories for each in group} == {3}
    assert "policy/entropy" not in rollout_metrics(silent)
    assert Rollouts.of_all([silent, said]).entropy is None
    # A rank without problems has nothing to say of them.
    assert Rollouts.of_all([said, nothing]).entropy == said.entropy
