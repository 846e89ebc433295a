"""What a model says to a problem, or to one after another, as it would be sampled in an evaluation."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from unigrad.data import PromptTemplate, prompted, turn_of
from unigrad.errors import ConfigError, one_line
from unigrad.evaluate.own_run import as_trained
from unigrad.evaluate.protocol import Protocol
from unigrad.evaluate.sampler import fitted_template, load_model, sampling_of
from unigrad.evaluate.suites import BENCHMARKS, TINY
from unigrad.live import LiveConsole
from unigrad.machine import limit_threads
from unigrad.policy import Policy
from unigrad.rollout import Engine, Prompt
from unigrad.types import Message, Problem

ASKING = "> "


def sample(model: str, problems: Sequence[str], protocol: Protocol) -> int:
    """Print what `model` completes each of the problems with; without any, ask for them on the terminal, a line each.

    Returns the exit code. Raises ConfigError on anything that is wrong with the model or a problem.
    """
    say = LiveConsole(stderr=True)
    protocol, line = as_trained(protocol, model)
    limit_threads()
    try:
        policy, engine = load_model(model, protocol)
        # The embedded model has its problems' template.
        usual = BENCHMARKS[TINY].prompt_template if model == TINY else None
        template, notes = fitted_template(protocol, usual, policy.tokenizer)
        speaker = Speaker(policy, engine, template, protocol)
        for note in filter(None, (line, *notes)):
            say.print(note, markup=False, soft_wrap=True)
        if problems:
            for text in problems:
                _show(speaker.completions(text, ()))
        else:
            _talk(speaker)
    except (ValueError, OSError) as error:
        raise ConfigError(one_line(error)) from error
    return 0


@dataclass(frozen=True)
class Speaker:
    policy: Policy
    engine: Engine
    template: PromptTemplate
    protocol: Protocol

    def completions(self, text: str, before: Sequence[Message]) -> list[str]:
        """What is said to a problem, `before` which this was said. Raises ValueError where there is no room for it."""
        problem = Problem(id=text, problem=text, answer="", messages=(*before, ("user", text)))
        prompt_ids = prompted(problem, self.template, self.policy.tokenizer).prompt_ids
        self.policy.check_embedded(prompt_ids, "the prompt")
        positions, longest = self.policy.max_positions, self.protocol.longest_completion
        longest = min(longest, self.protocol.max_concurrent_tokens - len(prompt_ids))
        room = longest if positions is None else min(longest, positions - len(prompt_ids))
        if room < 1:
            raise ValueError(f"the prompt has {len(prompt_ids)} tokens, which leave no room for a completion")
        end = turn_of(self.template, self.policy.tokenizer).end_id
        sampling = sampling_of(self.protocol, self.protocol.samples or 1, room, end)
        (found,) = self.engine.generate([Prompt(text, prompt_ids)], sampling, self.protocol.drawn_by)
        return [each.text for each in found]


def _talk(speaker: Speaker) -> None:
    """Under a chat template each problem is a turn of one chat, which goes on from the first of several answers."""
    said: list[Message] = []
    for text in _asked():
        found = speaker.completions(text, said)
        _show(found)
        if speaker.template.chat:
            said += [("user", text), ("assistant", found[0])]
        speaker = replace(speaker, protocol=replace(speaker.protocol, seed=speaker.protocol.drawn_by + 1))


def _asked() -> Iterator[str]:
    """The lines that are typed, or piped; Ctrl-D ends them."""
    is_asked = sys.stdin.isatty()
    while True:
        if is_asked:
            sys.stderr.write(ASKING)
            sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


def _show(completions: Sequence[str]) -> None:
    # Piped on, a lone surrogate of a model's must not end it all.
    sys.stdout.write("\n".join(completions).encode("utf-8", "replace").decode() + "\n")
    sys.stdout.flush()
