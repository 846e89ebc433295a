"""Keys and values of rows that grow at their own pace: fixed buffers whose active rows are a prefix.

Shapes: R rows, H key/value heads, L positions, D head size.
"""

from __future__ import annotations

import torch
from torch import Tensor


class RowCache:
    """What a transformers model sees as its `past_key_values` while it decodes one token for each active row.

    Each row begins at position 0 (nothing is padded on the left); `begin_step` says where the rows' next tokens go.
    """

    def __init__(self, rows: int, length: int, dtype: torch.dtype | None = None) -> None:
        """Room for `rows` rows of `length` positions, held as `dtype` (None: as the model makes them)."""
        self._rows = rows
        self._length = length
        self._dtype = dtype
        self._layers: list[tuple[Tensor, Tensor]] = []  # keys [R, H, L, D] and values [R, H, L, D]

    def begin_step(self, positions_B: Tensor, width: int) -> None:
        """The next forward writes row b at `positions_B[b]` and attends to the first `width` positions."""
        self._index_B = torch.arange(len(positions_B), device=positions_B.device)
        self._positions_B = positions_B
        self._width = width

    def update(self, keys_BH1D: Tensor, values_BH1D: Tensor, layer: int, *_: object) -> tuple[Tensor, Tensor]:
        """Write one token a row; return keys and values of the active rows, [B, H, width, D] each, without a copy."""
        views = []
        for buffer_RHLD, new_BH1D in zip(
            self._buffers(layer, keys_BH1D, values_BH1D), (keys_BH1D, values_BH1D), strict=True
        ):
            buffer_RHLD[self._index_B, :, self._positions_B] = new_BH1D[:, :, 0].to(buffer_RHLD.dtype)
            views.append(buffer_RHLD[: len(new_BH1D), :, : self._width])
        return views[0], views[1]

    def fill(self, start: int, stop: int, prefix: list[tuple[Tensor, Tensor]]) -> None:
        """Begin rows `start` to `stop` with one shared prefix: keys and values [H, length of the prefix, D] a layer."""
        for layer, (keys_HLD, values_HLD) in enumerate(prefix):
            keys_RHLD, values_RHLD = self._buffers(layer, keys_HLD[None], values_HLD[None])
            keys_RHLD[start:stop, :, : keys_HLD.shape[1]] = keys_HLD
            values_RHLD[start:stop, :, : values_HLD.shape[1]] = values_HLD

    def move(self, sources: list[int], targets: list[int], length: int) -> None:
        """Copy the first `length` positions of each source row over the target row of the same rank."""
        for buffers in self._layers:
            for buffer_RHLD in buffers:
                buffer_RHLD[targets, :, :length] = buffer_RHLD[sources, :, :length]

    def _buffers(self, layer: int, keys_BHLD: Tensor, values_BHLD: Tensor) -> tuple[Tensor, Tensor]:
        if layer == len(self._layers):
            self._layers.append((self._buffer(keys_BHLD), self._buffer(values_BHLD)))
        return self._layers[layer]

    def _buffer(self, like_BHLD: Tensor) -> Tensor:
        # Zeros, not empty: a masked position has weight 0, and 0·NaN would still be NaN.
        _, heads, _, size = like_BHLD.shape
        return like_BHLD.new_zeros(self._rows, heads, self._length, size, dtype=self._dtype)
