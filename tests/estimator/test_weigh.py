"""Rows of several algorithms in one flat tensor weigh what they weigh alone."""

from __future__ import annotations

import pytest
import torch

from unigrad.estimator import algorithm, algorithm_names, weigh

LENGTHS = [3, 1, 5, 2, 4, 4]


def statistics(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    names = ("logp", "rollout_logp", "advantages", "entropy", "reference_logp", "engine_logp")
    return {name: -torch.rand(sum(LENGTHS), generator=generator, dtype=torch.float64) for name in names}


@pytest.mark.parametrize("name", algorithm_names())
def test_each_row_weighs_what_it_weighs_among_its_own_algorithms_rows(name: str) -> None:
    chosen, sft = algorithm(name), algorithm("sft")
    given = statistics()
    index_R = torch.tensor([0, 1, 0, 0, 1, 0])
    question_R = torch.tensor([0, 0, 0, 1, 1, 1])
    found = weigh((chosen, sft), index_R, question_R, torch.tensor(LENGTHS), given)

    rows = {key: values.split(LENGTHS) for key, values in given.items()}
    mine = [index for index, of in enumerate(index_R.tolist()) if of == 0]
    padded = {
        key: torch.nn.utils.rnn.pad_sequence([values[index] for index in mine], batch_first=True)
        for key, values in rows.items()
    }
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(LENGTHS[i], dtype=torch.bool) for i in mine], batch_first=True)
    want = chosen.weights(
        padded["logp"], padded["rollout_logp"], padded["advantages"], mask, entropy=padded["entropy"],
        reference_logp=padded["reference_logp"], engine_logp=padded["engine_logp"], groups=question_R[mine],
    )  # fmt: skip
    of_rows = found.split(LENGTHS)
    assert torch.equal(torch.cat([of_rows[index] for index in mine]), want[mask])
    for index in set(range(len(LENGTHS))) - set(mine):
        assert torch.equal(of_rows[index], rows["advantages"][index])  # SFT's weight is its advantage


def test_a_statistic_that_is_missing_is_named() -> None:
    given = statistics() | {"entropy": None}
    with pytest.raises(ValueError, match="'high_entropy' needs entropy"):
        weigh(
            (algorithm("high_entropy"),), torch.zeros(6, dtype=torch.int64), torch.zeros(6), torch.tensor(LENGTHS),
            given,
        )  # fmt: skip
