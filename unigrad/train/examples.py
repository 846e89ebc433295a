"""What a run says of its training sets: which column became what, and one problem as the model gets it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from transformers import PreTrainedTokenizerBase

from unigrad.data import PreparedProblem, columns_line
from unigrad.errors import shortened
from unigrad.runs.folder import Example

LONGEST = 1000
"""Characters of a text on the console."""
EMBEDDED = "made by the embedded generator"


def example(name: str, problems: Sequence[PreparedProblem], tokenizer: PreTrainedTokenizerBase) -> Example:
    """Of a set that is not empty: its first problem with a demonstration, else its first."""
    shown = next((each for each in problems if each.demonstration is not None), problems[0])
    demonstration = shown.demonstration
    return Example(
        set=name,
        columns=columns_line([each.problem for each in problems]) or EMBEDDED,
        prompt=_decoded(shown.prompt_ids, tokenizer),
        demonstration=None if demonstration is None else _decoded(demonstration.completion_ids, tokenizer),
        answer=shown.problem.answer,
    )


def _decoded(token_ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.decode(list(token_ids), skip_special_tokens=False))


def example_lines(example: Example) -> Iterator[str]:
    """For the console, a text a line."""
    yield f"{example.set}: a problem as the model gets it, line breaks as ⏎:"
    texts = {"prompt": example.prompt, "demonstration": example.demonstration, "answer": example.answer}
    for name, text in texts.items():
        if text:
            line = text.replace("\n", "⏎")
            yield f"  {name:<14} {shortened(line, LONGEST)}"
