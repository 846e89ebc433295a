"""The embedded problem set and base model, with which `unigrad train` runs offline in minutes."""

from __future__ import annotations

from pathlib import Path

from unigrad.data.tiny.problems import tiny_problems

MODEL_PATH = Path(__file__).parent / "model"
"""The base model and its tokenizer, as save_pretrained writes them."""

__all__ = ["MODEL_PATH", "model_source", "tiny_problems"]


def model_source(name_or_path: str) -> str:
    """Where transformers finds the model; `tiny` is embedded."""
    return str(MODEL_PATH) if name_or_path == "tiny" else name_or_path
