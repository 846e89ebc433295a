"""The trained model, onto the hub."""

from __future__ import annotations

from pathlib import Path

from unigrad.errors import one_line
from unigrad.policy import transformers_api


def push(folder: Path, repository: str) -> str:
    """Upload the model in `folder`, logged in as huggingface_hub finds it. Returns what came of it, in a line: the
    model is there in any case."""
    try:
        url = transformers_api.upload(folder, repository, "Trained with unigrad")
    # Whatever the network, the hub and its client raise.
    except Exception as error:  # noqa: BLE001
        return f"WARNING: not pushed: {one_line(error)}; do it later with: hf upload {repository} {folder}"
    return f"pushed to {url}"
