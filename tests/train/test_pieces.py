"""Completions cut into the texts of their tokens: the concatenation is always the completion."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from unigrad.data.tiny import MODEL_PATH
from unigrad.train.pieces import TokenTexts


def wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    tokenizer.add_special_tokens([AddedToken("<end>", special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", clean_up_tokenization_spaces=False)


def byte_level() -> PreTrainedTokenizerFast:
    """Every byte a token, as in GPT-2's family, and one merge that starts within a character."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: index for index, letter in enumerate(alphabet)}
    # The last byte of "é" with the first of "∈": "Ã©" and "âĪĪ" in that alphabet.
    vocabulary["©â"] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, [("©", "â")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return wrapped(tokenizer)


def metaspace() -> PreTrainedTokenizerFast:
    """Words with a leading mark for their space, which the start of a text loses; bytes for the rest, as in Llama 2."""
    words = ["▁the", "▁cat", "cat", "▁", "s", ",", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], byte_fallback=True, fuse_unk=True))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return wrapped(tokenizer)


def pieces(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[str]:
    """Of a completion that ends with the end token, if it is the last of `ids`."""
    written = ids[:-1] if ids and ids[-1] == tokenizer.eos_token_id else ids
    text = tokenizer.decode(written, skip_special_tokens=False)
    found = TokenTexts(tokenizer)(ids, text)
    assert "".join(found) == text
    assert len(found) == len(ids)
    return found


def test_the_end_token_is_empty() -> None:
    tokenizer = AutoTokenizer.from_pretrained(MODEL_PATH)
    ids = [*tokenizer("12=3;", add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    assert pieces(tokenizer, ids) == ["1", "2", "=", "3", ";", ""]
    assert pieces(tokenizer, []) == []


def test_other_special_tokens_are_text() -> None:
    tokenizer = byte_level()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    ids = [*tokenizer("<think>≥1</think>2<end><think>").input_ids, tokenizer.eos_token_id]
    assert pieces(tokenizer, ids) == ["<think>", "", "", "≥", "1", "</think>", "2", "<end>", "<think>", ""]
    # Nothing but the end.
    assert pieces(tokenizer, [tokenizer.eos_token_id]) == [""]


def test_a_character_of_several_tokens_is_the_last_ones() -> None:
    tokenizer = byte_level()
    assert pieces(tokenizer, [*tokenizer("a≥b").input_ids, tokenizer.eos_token_id]) == ["a", "", "", "≥", "b", ""]
    # One token ends a character and begins the next.
    assert pieces(tokenizer, tokenizer("é∈é").input_ids) == ["", "é", "", "∈", "", "é"]
    # Cut off within a character: what stands for the rest is the last token's.
    assert pieces(tokenizer, tokenizer("x≥").input_ids[:-1]) == ["x", "", "�"]
    # Bytes that are no character at all.
    assert "".join(pieces(tokenizer, tokenizer("≥").input_ids[1:] + tokenizer("y").input_ids)).endswith("y")


def test_spaces_that_the_start_loses() -> None:
    tokenizer = metaspace()
    ids = tokenizer.convert_tokens_to_ids(
        ["▁the", "▁cat", "s", ",", "▁cat", "<0xE2>", "<0x89>", "<0xA5>", "▁", "s", "<end>"]
    )
    assert pieces(tokenizer, ids) == ["the", " cat", "s", ",", " cat", "", "", "≥", "", " s", ""]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 255), max_size=24))
@pytest.mark.parametrize("make", [byte_level, metaspace])
def test_any_tokens_at_all(make: object, ids: list[int]) -> None:
    assert callable(make)
    tokenizer = make()
    pieces(tokenizer, ids)
    pieces(tokenizer, [*ids, tokenizer.eos_token_id])
