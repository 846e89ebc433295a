"""The embedded model under a chat template, whose marks are tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from unigrad.data.tiny import MODEL_PATH


def save_chat_model(folder: Path, chat_template: str, marks: Sequence[str], *, resize: bool = True) -> Any:
    """Save it with its tokenizer, which is returned. resize: the model embeds the marks, too."""
    tokenizer = AutoTokenizer.from_pretrained(MODEL_PATH)
    tokenizer.add_special_tokens({"additional_special_tokens": list(marks)})
    tokenizer.chat_template = chat_template
    model = AutoModelForCausalLM.from_pretrained(MODEL_PATH)
    if resize:
        torch.manual_seed(0)
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer
