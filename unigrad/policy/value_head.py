"""The value head of PPO: V(s_t) on the policy's own hidden states, and its clipped loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ValueHead(nn.Module):
    """A linear map from the hidden state that predicts token t to V(s_t), the return still to come from there.

    It starts at 0: the first advantages are the rewards themselves, not the noise of an untrained estimate.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden_ND: Tensor) -> Tensor:
        """f[N,D] -> f[N], in float32 or higher."""
        weight = self.linear.weight
        values: Tensor = self.linear(hidden_ND.to(weight.dtype))[:, 0]
        # No view: on one, the hooks of a sharded policy could be lost.
        return values.clone()


def clipped_value_loss(values: Tensor, rollout_values: Tensor, returns: Tensor, clip: float) -> Tensor:
    """½·max((V − R)², (clip(V, V_old ± clip) − R)²), elementwise, of any one shape.

    PPO's value loss as in its reference implementation (Schulman et al. 2017; Huang et al. 2022, "The 37 Implementation
    Details of PPO", detail 9): a value that has moved further than `clip` from V_old towards R stops training.
    """
    clipped = rollout_values + (values - rollout_values).clamp(-clip, clip)
    return 0.5 * torch.maximum((values - returns).square(), (clipped - returns).square())
