"""The text of each token, so that a completion can be read token by token."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from transformers import PreTrainedTokenizerBase

PARTIAL = "\ufffd"
"""What stands for bytes that are not, or not yet, a character."""


class TokenTexts:
    """Cuts a decoded completion into the texts of its tokens. Each token is decoded once and remembered."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._alone: dict[int, str] = {}

    def __call__(self, token_ids: Sequence[int], text: str) -> list[str]:
        """A piece for each id, whose concatenation is exactly `text`: the ids as the tokenizer decodes them, with or
        without the end token that is the last.

        A character of several tokens belongs to the one that completes it; the others are empty, as is an end token
        that `text` leaves out.
        """
        pieces = [self._decoded_alone(token) for token in token_ids]
        for start, end in _runs(pieces):
            pieces[start:end] = self._together(token_ids[start:end])
        for exact in (pieces, [*pieces[:-1], ""]):
            if len(exact) == len(pieces) and "".join(exact) == text:
                return exact
        return _aligned(pieces, text)

    def _decoded_alone(self, token: int) -> str:
        if token not in self._alone:
            self._alone[token] = self._decode([token])
        return self._alone[token]

    def _together(self, token_ids: Sequence[int]) -> list[str]:
        """The pieces of tokens that are parts of characters."""
        whole = self._decode(token_ids)
        ends = [0]
        for end in range(1, len(token_ids)):
            so_far = self._decode(token_ids[:end]).rstrip(PARTIAL)
            ends.append(max(ends[-1], len(so_far)) if whole.startswith(so_far) else ends[-1])
        return [whole[first:last] for first, last in pairwise([*ends, len(whole)])]

    def _decode(self, token_ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=False))


def _runs(pieces: Sequence[str]) -> list[tuple[int, int]]:
    """Where neighbours are parts of characters: start and end of each run."""
    runs: list[tuple[int, int]] = []
    for index, piece in enumerate(pieces):
        if PARTIAL not in piece:
            continue
        if runs and runs[-1][1] == index:
            runs[-1] = (runs[-1][0], index + 1)
        else:
            runs.append((index, index + 1))
    return runs


def _aligned(pieces: Sequence[str], text: str) -> list[str]:
    """`text` cut where the pieces are found in it one after another; what is between them goes with the later one.

    For tokenizers whose decoding of the whole differs from that of its parts: a space that only the start loses, or
    spaces tidied up.
    """
    cut, start = [], 0
    for piece in pieces:
        found = text.find(piece, start, start + len(piece) + 4) if piece else -1
        end = start if found < 0 else found + len(piece)
        cut.append(text[start:end])
        start = end
    if cut:
        cut[-1] += text[start:]
    return cut
