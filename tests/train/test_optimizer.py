from __future__ import annotations

import math

import pytest
import torch

from unigrad.config import TrainConfig
from unigrad.train.optimizer import build_optimizer, guarded_update, learning_rate


def test_learning_rates_by_hand() -> None:
    config = TrainConfig(learning_rate=1.0, warmup_steps=2, max_steps=10, lr_scheduler_type="linear")
    # Steps 1, 2 warm up; then 8 steps fall from 1 by 1/8 a step, so that 0 would be reached after the last.
    assert [learning_rate(step, config) for step in range(1, 11)] == [
        0.5,
        1,
        1,
        7 / 8,
        6 / 8,
        5 / 8,
        4 / 8,
        3 / 8,
        2 / 8,
        1 / 8,
    ]
    cosine = config.model_copy(update={"lr_scheduler_type": "cosine"})
    assert learning_rate(3, cosine) == 1.0
    assert learning_rate(7, cosine) == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))
    constant = config.model_copy(update={"lr_scheduler_type": "constant"})
    assert [learning_rate(step, constant) for step in (1, 2, 3, 10)] == [0.5, 1, 1, 1]
    assert learning_rate(1, TrainConfig(learning_rate=1.0, max_steps=1, lr_scheduler_type="cosine")) == 1.0


def model_with_gradient(values: list[float]) -> tuple[torch.nn.Linear, torch.optim.AdamW]:
    model = torch.nn.Linear(2, 1)
    model.weight.grad = torch.tensor([values])
    model.bias.grad = torch.zeros(1)
    return model, build_optimizer(list(model.parameters()), TrainConfig(learning_rate=0.1, weight_decay=0.5))


def test_matrices_decay_and_vectors_do_not() -> None:
    _, optimizer = model_with_gradient([0.0, 0.0])
    assert [(group["params"][0].ndim, group["weight_decay"]) for group in optimizer.param_groups] == [
        (2, 0.5),
        (1, 0.0),
    ]


def test_the_gradient_is_clipped_to_max_grad_norm() -> None:
    model, _ = model_with_gradient([3.0, 4.0])
    before = model.weight.detach().clone()
    sgd = torch.optim.SGD(model.parameters(), lr=1.0)
    outcome = guarded_update(sgd, 1.0, TrainConfig(max_grad_norm=1.0))
    assert (outcome.grad_norm, outcome.skipped) == (5.0, False)
    # 1/(5 + 1e-6) is torch's own guard against a norm of 0, hence the tolerance.
    torch.testing.assert_close(before - model.weight.detach(), torch.tensor([[0.6, 0.8]]), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("gradient", "loss", "threshold", "skipped"),
    [
        ([math.nan, 1.0], 1.0, 0.0, True),
        ([math.inf, 1.0], 1.0, 0.0, True),
        ([3.0, 4.0], math.nan, 0.0, True),
        ([3.0, 4.0], 1.0, 4.9, True),
        ([3.0, 4.0], 1.0, 5.1, False),
    ],
)
def test_unfit_gradients_move_neither_weights_nor_moments(
    gradient: list[float], loss: float, threshold: float, skipped: bool
) -> None:
    model, optimizer = model_with_gradient(gradient)
    before = model.weight.detach().clone()
    outcome = guarded_update(optimizer, loss, TrainConfig(skip_grad_norm=threshold))
    assert outcome.skipped is skipped
    assert torch.equal(before, model.weight.detach()) is skipped
    assert (len(optimizer.state) == 0) is skipped
    assert model.weight.grad is None
