"""The GPUs that the runs of a comparison share, where they train on them."""

from __future__ import annotations

import os


def gpus(device: str) -> tuple[str, ...]:
    """The GPUs over which runs with this `model.device` are spread, by their names for CUDA_VISIBLE_DEVICES.

    None for a CPU; nor for a device that says its number, which all runs then share.
    """
    if device not in ("auto", "cuda"):
        return ()
    # Only now: it takes seconds, and a comparison on CPU or one that is done need not wait for it.
    import torch

    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return tuple(visible.split(",") if visible else map(str, range(count)))[:count]
