"""Keys and values of rows that grow at their own pace: fixed buffers whose active rows are a prefix.

Shapes: R rows, H key/value heads, L positions, D head size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unigrad.policy.transformers_api import Cache, DynamicLayer


class RowCache(Cache):  # type: ignore[misc]  # transformers has no types
    """What a transformers model sees as its cache while it decodes one token for each active row.

    Each row begins at position 0 (nothing is padded on the left); `begin_step` says where the rows' next tokens go.
    """

    def __init__(self, layers: int, rows: int, length: int, dtype: torch.dtype | None = None) -> None:
        """Room for `rows` rows of `length` positions in each layer, held as `dtype` (None: as the model makes them)."""
        super().__init__(layers=[_RowLayer(rows, length, dtype) for _ in range(layers)])

    def begin_step(self, positions_B: Tensor, width: int) -> None:
        """The next forward writes row b at `positions_B[b]` and attends to the first `width` positions."""
        index_B = torch.arange(len(positions_B), device=positions_B.device)
        for layer in self.layers:
            layer.begin_step(index_B, positions_B, width)

    def fill(self, start: int, stop: int, prefix: list[tuple[Tensor, Tensor]]) -> None:
        """Begin rows `start` to `stop` with one shared prefix: keys and values [H, length of the prefix, D] a layer."""
        if prefix:  # a prompt of one token has none
            for layer, (keys_HLD, values_HLD) in zip(self.layers, prefix, strict=True):
                layer.fill(start, stop, keys_HLD, values_HLD)

    def move(self, sources: list[int], targets: list[int], length: int) -> None:
        """Copy the first `length` positions of each source row over the target row of the same rank."""
        for layer in self.layers:
            for buffer_RHLD in (layer.keys, layer.values):
                buffer_RHLD[targets, :, :length] = buffer_RHLD[sources, :, :length]


class _RowLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's `keys` and `values`, [R, H, L, D] each, made when the first ones come."""

    def __init__(self, rows: int, length: int, dtype: torch.dtype | None) -> None:
        super().__init__()
        self._rows = rows
        self._length = length
        self._dtype = dtype
        self._width = 0

    def begin_step(self, index_B: Tensor, positions_B: Tensor, width: int) -> None:
        self._index_B = index_B
        self._positions_B = positions_B
        self._width = width

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: object, **_options: object
    ) -> tuple[Tensor, Tensor]:
        """Write one token a row, [B, H, 1, D]; return keys and values of the active rows, [B, H, width, D], no copy."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        views = []
        for buffer_RHLD, new_BH1D in ((self.keys, key_states), (self.values, value_states)):
            buffer_RHLD[self._index_B, :, self._positions_B] = new_BH1D[:, :, 0].to(buffer_RHLD.dtype)
            views.append(buffer_RHLD[: len(new_BH1D), :, : self._width])
        return views[0], views[1]

    def fill(self, start: int, stop: int, keys_HLD: Tensor, values_HLD: Tensor) -> None:
        if not self.is_initialized:
            self.lazy_initialization(keys_HLD[None], values_HLD[None])
        self.keys[start:stop, :, : keys_HLD.shape[1]] = keys_HLD
        self.values[start:stop, :, : values_HLD.shape[1]] = values_HLD

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.keys, self.values = self._buffer(key_states), self._buffer(value_states)
        self.is_initialized = True

    def get_seq_length(self) -> int:
        """Positions before the token at hand, of the longest row."""
        return max(self._width - 1, 0)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def _buffer(self, like_BHLD: Tensor) -> Tensor:
        # Zeros, not empty: a masked position has weight 0, and 0·NaN would still be NaN.
        _, heads, _, size = like_BHLD.shape
        return like_BHLD.new_zeros(self._rows, heads, self._length, size, dtype=self._dtype)
