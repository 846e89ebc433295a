"""Which layout an update's trajectories take: the one whose forward and backward cost least, of those that are exact
for the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

from unigrad.batch.micro_batch import Layout, MicroBatch
from unigrad.batch.packed import packed
from unigrad.batch.padded import micro_batches, padded
from unigrad.batch.prefix import prefix, shared_prompts
from unigrad.batch.sequences import Sequences


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What a pass costs, counted in positions: of one token through everything but attention.

    layouts: those that are exact for the model. pair: of one query on one key, through all layers. call: of a pass over
    nothing, and least: a pass over fewer positions costs as much as one over so many. packs_exactly: whether the kernel
    takes a packed row as it is; else attention, and it alone, fills its trajectories up.
    """

    layouts: Set[Layout] = frozenset(("padded",))
    pair: float = 0.0
    call: float = 0.0
    least: int = 1
    packs_exactly: bool = False

    def of(self, positions: int, pairs: float) -> float:
        return self.call + max(positions, self.least) + self.pair * pairs


PADDED = Costs()


def micro_batch_of(sequences: Sequences, groups: Sequence[Sequence[int]], layout: Layout) -> MicroBatch:
    """The trajectories of these groups, each of which shares a prompt, in this layout."""
    if layout == "prefix":
        return prefix(sequences, groups)
    indices = [index for group in groups for index in group]
    return (packed if layout == "packed" else padded)(sequences, indices)


def laid_out(
    sequences: Sequences, indices: Sequence[int], token_budget: int, costs: Costs = PADDED
) -> Iterator[MicroBatch]:
    """The trajectories `indices`, each in one micro-batch of at most `token_budget` positions.

    One that is longer is alone. Raises ValueError on a budget below one token.
    """
    length = {index: int(sequences.length_S[index]) for index in indices}
    alone = list(indices)
    if "prefix" in costs.layouts:
        batches, alone = _shared(sequences, indices, token_budget, costs, length)
        for groups in batches:
            yield micro_batch_of(sequences, groups, "prefix")
    for places in micro_batches([length[index] for index in alone], token_budget):
        chosen = [alone[place] for place in places]
        layout: Layout = "packed" if _packs(costs, [length[index] for index in chosen]) else "padded"
        yield micro_batch_of(sequences, [chosen], layout)


def _packs(costs: Costs, lengths: Sequence[int]) -> bool:
    """Whether a micro-batch costs less packed than padded."""
    if "packed" not in costs.layouts or len(lengths) == 1:
        return False
    return _packed_cost(costs, lengths) < _padded_cost(costs, lengths)


def _packed_cost(costs: Costs, lengths: Sequence[int]) -> float:
    pairs = sum(each * each for each in lengths) / 2 if costs.packs_exactly else _causal_pairs(lengths)
    return costs.of(sum(lengths), pairs)


def _padded_cost(costs: Costs, lengths: Sequence[int]) -> float:
    return costs.of(len(lengths) * max(lengths), _causal_pairs(lengths))


def _causal_pairs(lengths: Sequence[int]) -> float:
    """Of queries and keys of rows side by side."""
    return len(lengths) * max(lengths) ** 2 / 2


_Groups = list[list[int]]


def _shared(
    sequences: Sequences, indices: Sequence[int], token_budget: int, costs: Costs, length: dict[int, int]
) -> tuple[list[_Groups], list[int]]:
    """The micro-batches of those whose prompt is computed once, if that costs less in all; and the others."""
    prompt = {index: int(sequences.prompt_S[index]) - 1 for index in indices}
    groups = [each for each in shared_prompts(sequences, indices) if len(each) > 1 and prompt[each[0]]]
    together = {index for group in groups for index in group}
    if not together:
        return [], list(indices)
    batches = _filled(groups, prompt, length, token_budget)
    shared_cost = sum(_cost(batch, prompt, length, costs) for batch in batches)
    rows = [length[index] for index in sorted(together)]
    each_cost = 0.0
    for places in micro_batches(rows, token_budget):
        lengths = [rows[place] for place in places]
        each_cost += _packed_cost(costs, lengths) if _packs(costs, lengths) else _padded_cost(costs, lengths)
    if shared_cost >= each_cost:
        return [], list(indices)
    return batches, [index for index in indices if index not in together]


def _filled(groups: _Groups, prompt: dict[int, int], length: dict[int, int], token_budget: int) -> list[_Groups]:
    """Groups of like rest together, the longest first, as many as the budget holds; a larger one is parted."""
    batches: list[_Groups] = []
    # Of the last batch: its longest prompt and rest, and its rows.
    width, rest, rows = 0, 0, 0
    for group in sorted(groups, key=lambda group: -max(length[index] - prompt[index] for index in group)):
        shared, longest = prompt[group[0]], max(length[index] - prompt[index] for index in group)
        size = max(1, (token_budget - shared) // longest)
        for part in (group[first : first + size] for first in range(0, len(group), size)):
            wider = max(width, shared)
            if batches and (len(batches[-1]) + 1) * wider + (rows + len(part)) * rest <= token_budget:
                batches[-1].append(part)
                width, rows = wider, rows + len(part)
            else:
                batches.append([part])
                width, rest, rows = shared, longest, len(part)
    return batches


def _cost(batch: _Groups, prompt: dict[int, int], length: dict[int, int], costs: Costs) -> float:
    """Of the pass over the prompts and of the one over the rows, whose attention to both is under a mask."""
    prompts = [prompt[group[0]] for group in batch]
    rests = [length[index] - prompt[index] for group in batch for index in group]
    pairs = len(rests) * max(rests) * (max(prompts) + max(rests))
    return costs.of(sum(prompts), _causal_pairs(prompts)) + costs.of(sum(rests), pairs)
