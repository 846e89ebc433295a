from __future__ import annotations

import torch

from unigrad.policy.value_head import ValueHead, clipped_value_loss


def test_it_starts_at_zero_and_is_linear() -> None:
    head = ValueHead(3)
    assert head(torch.randn(5, 3)).tolist() == [0.0] * 5
    torch.nn.init.constant_(head.linear.weight, 2.0)
    torch.nn.init.constant_(head.linear.bias, 1.0)
    assert head(torch.tensor([[1.0, 2.0, 3.0]])).tolist() == [13.0]


def test_the_clipped_loss_by_hand() -> None:
    # clip 0.2 around V_old = 0, returns 1.
    values = torch.tensor([0.1, 0.5, -0.5, 1.0], dtype=torch.float64, requires_grad=True)
    loss = clipped_value_loss(values, torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64), 0.2)
    # Inside the clip: ½·0.9². 0.5 is clipped to 0.2: ½·0.8² > ½·0.5². −0.5 moved away from R: ½·1.5² > ½·1.2².
    want = torch.tensor([0.405, 0.32, 1.125, 0.32], dtype=torch.float64)
    torch.testing.assert_close(loss.detach(), want, rtol=0, atol=1e-12)
    loss.sum().backward()
    # Past the clip towards the return nothing is left to learn; elsewhere the gradient is V − R.
    assert values.grad is not None
    torch.testing.assert_close(
        values.grad, torch.tensor([-0.9, 0.0, -1.5, 0.0], dtype=torch.float64), rtol=0, atol=1e-12
    )
