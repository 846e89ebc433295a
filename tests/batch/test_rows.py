"""Rows as flat tensors: what trains is each row's own tokens, however rows and trajectories are cut."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unigrad.batch import Row, Rows, Sequences, laid_out
from unigrad.estimator import algorithm

SFT, GRPO = algorithm("sft"), algorithm("grpo")


def sequences(lengths: list[tuple[int, int]]) -> Sequences:
    """Trajectories of these prompt and completion lengths; every token id is its own position among all."""
    rows, first = [], 0
    for prompt, completion in lengths:
        ids = range(first, first + prompt + completion)
        rows.append((ids[:prompt], ids[prompt:]))
        first = ids.stop
    return Sequences.of_ids(rows, [1.0] * len(rows))


lengths = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 9)), min_size=1, max_size=8)


@given(lengths, st.data())
def test_what_is_taken_is_what_was_put_in(sizes: list[tuple[int, int]], data: st.DataObject) -> None:
    every = sequences(sizes)
    order = data.draw(st.permutations(range(len(sizes))))
    chosen = order[: data.draw(st.integers(1, len(sizes)))]
    part = every.take(torch.tensor(chosen))
    starts = [sum(map(sum, sizes[:index])) for index in range(len(sizes))]
    want = [list(range(starts[index], starts[index] + sum(sizes[index]))) for index in chosen]
    assert part.token_ids_L.tolist() == [token for row in want for token in row]
    # The targets are the completions.
    targets = [token for index, row in zip(chosen, want, strict=True) for token in row[sizes[index][0] :]]
    assert part.token_ids_L[part.target_L].tolist() == targets


@given(lengths, st.integers(1, 60))
def test_micro_batches_predict_each_completion_token_from_the_one_before(
    sizes: list[tuple[int, int]], budget: int
) -> None:
    every = sequences(sizes)
    seen = []
    for batch in laid_out(every, range(len(sizes)), budget):
        before = batch.input_ids_PL.flatten()[batch.predicting_M]
        assert (before + 1 == batch.target_ids_M).all()
        assert batch.input_ids_PL.shape == (len(batch.lengths), max(map(sum, batch.lengths)) - 1)
        seen += batch.target_ids_M.tolist()
    assert sorted(seen) == every.token_ids_L[every.target_L].tolist()


def test_rows_weigh_spans_and_share_a_trajectory() -> None:
    every = sequences([(2, 4), (1, 3)])
    mask = torch.tensor([False, True, True, False])
    rows = Rows.of(
        every,
        [
            Row(sequence=1, question=7, algorithm=GRPO, coefficient=0.5, advantage=torch.tensor([1.0, 2.0, 3.0])),
            Row(sequence=0, question=3, algorithm=SFT, coefficient=0.25, advantage=1.0, mask=mask),
            Row(sequence=0, question=3, algorithm=GRPO, coefficient=2.0, advantage=-1.0, returns=torch.ones(4)),
        ],
    )
    assert rows.trained_sequences == [0, 1]
    assert rows.algorithms == (GRPO, SFT)
    assert rows.token_N.tolist() == [4, 5, 6, 1, 2, 0, 1, 2, 3]
    assert rows.row_N.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 2]
    assert rows.advantage_N.tolist() == [1, 2, 3, 1, 1, -1, -1, -1, -1]
    assert rows.returns_N is not None
    assert rows.returns_N.isnan().tolist() == [True] * 5 + [False] * 4
    part, tokens_N = rows.select(torch.tensor([0]))
    assert tokens_N.tolist() == [3, 4, 5, 6, 7, 8]
    assert part.token_N.tolist() == [1, 2, 0, 1, 2, 3]
    assert (part.question_R.tolist(), part.coefficient_R.tolist()) == ([3, 3], [0.25, 2.0])


@given(lengths, st.data())
def test_the_parts_of_an_update_are_the_whole(sizes: list[tuple[int, int]], data: st.DataObject) -> None:
    every = sequences(sizes)
    made = []
    for _ in range(data.draw(st.integers(1, 10))):
        sequence = data.draw(st.integers(0, len(sizes) - 1))
        mask = data.draw(st.lists(st.booleans(), min_size=sizes[sequence][1], max_size=sizes[sequence][1]))
        made.append(
            Row(
                sequence=sequence, question=0, algorithm=data.draw(st.sampled_from([SFT, GRPO])), coefficient=1.0,
                advantage=data.draw(st.floats(-2, 2)), mask=torch.tensor(mask),
            )
        )  # fmt: skip
    rows = Rows.of(every, made)
    targets = every.token_ids_L[every.target_L]
    whole = sorted(zip(targets[rows.token_N].tolist(), rows.advantage_N.tolist(), strict=True))
    cut, positions = [], []
    for batch in laid_out(every, rows.trained_sequences, 12):
        part, tokens_N = rows.select(batch.indices_P)
        cut += zip(batch.target_ids_M[part.token_N].tolist(), part.advantage_N.tolist(), strict=True)
        positions += tokens_N.tolist()
    assert sorted(cut) == whole
    assert sorted(positions) == list(range(len(rows.token_N)))


def test_a_mask_of_another_length_is_refused() -> None:
    row = Row(
        sequence=0, question=0, algorithm=SFT, coefficient=1.0, advantage=1.0, mask=torch.ones(3, dtype=torch.bool)
    )
    with pytest.raises(ValueError, match=r"a mask of \[3\] on a completion of 4 tokens"):
        Rows.of(sequences([(2, 4)]), [row])


def test_moving_casts_what_floats_and_nothing_else() -> None:
    rows = Rows.of(
        sequences([(2, 4)]), [Row(sequence=0, question=0, algorithm=SFT, coefficient=1.0, advantage=1.0)]
    ).to(torch.device("cpu"), torch.float32)
    assert (rows.advantage_N.dtype, rows.sequences.old_logp_M.dtype) == (torch.float32, torch.float32)
    assert (rows.offset_N.dtype, rows.sequences.sampled_S.dtype) == (torch.int64, torch.bool)
