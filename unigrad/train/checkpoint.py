"""The trainer's part of a checkpoint: the optimizer's moments, the value head, and the position."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from unigrad.policy import Policy
from unigrad.runs.checkpoints import Position

OPTIMIZER_FILE = "optimizer.pt"
VALUE_HEAD_FILE = "value_head.safetensors"


def write_state(folder: Path, optimizer: torch.optim.Optimizer, policy: Policy, position: Position) -> None:
    torch.save(optimizer.state_dict(), folder / OPTIMIZER_FILE)
    if policy.value_head is not None:
        save_file(policy.value_head.state_dict(), folder / VALUE_HEAD_FILE)
    position.write(folder)


def load_state(folder: Path, optimizer: torch.optim.Optimizer, policy: Policy) -> Position:
    """Give the optimizer and the value head what `write_state` wrote, and return the position."""
    optimizer.load_state_dict(torch.load(folder / OPTIMIZER_FILE, map_location=policy.device, weights_only=True))
    if policy.value_head is not None:
        policy.value_head.load_state_dict(load_file(folder / VALUE_HEAD_FILE, device=str(policy.device)))
    return Position.read(folder)
