"""The embedded problem set and base model, with which `unigrad train` runs offline in minutes."""

from __future__ import annotations

from pathlib import Path

from unigrad.data.tiny.problems import tiny_problems

MODEL_PATH = Path(__file__).parent / "model"
"""The base model and its tokenizer, as save_pretrained writes them."""

__all__ = ["MODEL_PATH", "tiny_problems"]
