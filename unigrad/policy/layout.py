"""How rows of unequal length become micro-batches."""

from __future__ import annotations

from collections.abc import Sequence


def micro_batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Row indices in groups whose padded size, rows x longest row, is at most `token_budget`.

    Rows of like length share a group, so little is padded; the longest come first, so a budget that does not fit in
    memory fails at the first group. A row longer than the budget is alone in its group. Equal lengths keep their order.

    Raises:
        ValueError: a budget below one token.
    """
    if token_budget < 1:
        raise ValueError(f"the token budget of a micro-batch must be at least 1, not {token_budget}")
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if groups and (len(groups[-1]) + 1) * lengths[groups[-1][0]] <= token_budget:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups
