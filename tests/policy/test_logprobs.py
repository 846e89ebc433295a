"""Chunked log-probs and entropies against plain log_softmax: values, gradients, memory, precision.

Shape suffixes: N tokens, V vocabulary, D hidden size.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from unigrad.policy import logprobs, token_logprobs
from unigrad.policy.head import IDENTITY, LogitTransform

N, V, D = 11, 7, 5


def problem(dtype: torch.dtype = torch.float64, scale: float = 2.0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden_ND = scale * torch.randn(N, D, generator=generator, dtype=torch.float64)
    weight_VD = torch.randn(V, D, generator=generator, dtype=torch.float64)
    return {
        "hidden_ND": hidden_ND.to(dtype).requires_grad_(),
        "weight_VD": weight_VD.to(dtype).requires_grad_(),
        "bias_V": torch.randn(V, generator=generator, dtype=torch.float64).to(dtype).requires_grad_(),
        "targets_N": torch.randint(V, (N,), generator=generator),
        "temperature_N": (0.5 + torch.rand(N, generator=generator, dtype=torch.float64)).to(dtype),
    }


def plain(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    targets_N: Tensor,
    bias_V: Tensor | None = None,
    temperature_N: Tensor | None = None,
    transform: LogitTransform = IDENTITY,
) -> tuple[Tensor, Tensor]:
    logits_NV = hidden_ND @ weight_VD.T
    if bias_V is not None:
        logits_NV = logits_NV + bias_V
    logits_NV = transform.scale * logits_NV
    if transform.cap is not None:
        logits_NV = transform.cap * (logits_NV / transform.cap).tanh()
    if temperature_N is not None:
        logits_NV = logits_NV / temperature_N[:, None]
    logp_NV = logits_NV.log_softmax(-1)
    return logp_NV.gather(1, targets_N[:, None])[:, 0], -(logp_NV.exp() * logp_NV).sum(-1)


def gradients(outputs: tuple[Tensor, Tensor], inputs: list[Tensor]) -> list[Tensor]:
    """Gradients of a sum with another weight on each token's log-prob and entropy."""
    weights_N = torch.linspace(-1, 2, N, dtype=outputs[0].dtype)
    return list(torch.autograd.grad((outputs[0] * weights_N).sum() + (outputs[1] * weights_N**2).sum(), inputs))


def test_hand_computed_values() -> None:
    # Logits (ln 1, ln 2, ln 5): p = (1/8, 1/4, 5/8).
    hidden_ND = torch.ones(1, 1, dtype=torch.float64)
    weight_VD = torch.tensor([[1.0], [2.0], [5.0]], dtype=torch.float64).log()
    logp_N, entropy_N = token_logprobs(hidden_ND, weight_VD, torch.tensor([1]))
    assert logp_N.item() == pytest.approx(-math.log(4), abs=1e-15)
    # H = 1/8 ln 8 + 1/4 ln 4 + 5/8 ln 8/5 = 0.375 ln 2 + 0.5 ln 2 + 0.625 ln 1.6
    assert entropy_N.item() == pytest.approx(0.875 * math.log(2) + 0.625 * math.log(1.6), abs=1e-15)
    # At temperature 1/2 the odds are squared: 1 : 4 : 25.
    logp_N, _ = token_logprobs(hidden_ND, weight_VD, torch.tensor([2]), temperature_N=torch.tensor([0.5]))
    assert logp_N.item() == pytest.approx(math.log(25 / 30), abs=1e-15)


@pytest.mark.parametrize("chunk_tokens", [1, 3, 4, N, 1024])
@pytest.mark.parametrize("options", [(), ("bias_V",), ("temperature_N",), ("bias_V", "temperature_N")])
def test_equals_plain_log_softmax_in_value_and_gradient(options: tuple[str, ...], chunk_tokens: int) -> None:
    tensors = problem()
    args = [tensors[name] for name in ("hidden_ND", "weight_VD", "targets_N")]
    keywords = {name: tensors[name] for name in options}
    inputs = [tensor for tensor in [*args, *keywords.values()] if tensor.requires_grad]
    ours, expected = token_logprobs(*args, **keywords, chunk_tokens=chunk_tokens), plain(*args, **keywords)
    for actual, wanted in zip(
        [*ours, *gradients(ours, inputs)], [*expected, *gradients(expected, inputs)], strict=True
    ):
        torch.testing.assert_close(actual, wanted, rtol=1e-12, atol=1e-12)


# Logits of these problems reach about 10: the caps bite hard, a little, and hardly at all.
TRANSFORMS = [LogitTransform(0.3), *(LogitTransform(scale, cap) for scale in (1.0, 1.7) for cap in (1.5, 8.0, 1e3))]


@pytest.mark.parametrize("kept_bytes", [0, 2**20], ids=["recomputed", "kept"])
@pytest.mark.parametrize("options", [(), ("bias_V",), ("temperature_N",), ("bias_V", "temperature_N")])
@pytest.mark.parametrize("transform", TRANSFORMS, ids=str)
def test_scaled_and_capped_logits_in_value_and_gradient(
    transform: LogitTransform, options: tuple[str, ...], kept_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(logprobs.KEPT_BYTES, "cpu", kept_bytes)
    tensors = problem()
    args = [tensors[name] for name in ("hidden_ND", "weight_VD", "targets_N")]
    keywords: dict[str, Any] = {name: tensors[name] for name in options} | {"transform": transform}
    inputs = [tensors[name] for name in ("hidden_ND", "weight_VD", *options) if tensors[name].requires_grad]
    ours, expected = token_logprobs(*args, **keywords, chunk_tokens=4), plain(*args, **keywords)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    weights_N = torch.linspace(-1, 2, N, dtype=torch.float64) * (torch.arange(N) % 3 > 0)
    for bonus in (0.0, 0.5):
        # Twice, for what is kept must survive a backward pass; tokens without a gradient are left out of it.
        for _ in range(2):
            found, wanted = (
                torch.autograd.grad((logp_N * weights_N).sum() + bonus * entropy_N[3:].sum(), inputs, retain_graph=True)
                for logp_N, entropy_N in (ours, expected)
            )
            torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_saturated_caps_in_float32() -> None:
    tensors, transform = problem(torch.float32), LogitTransform(cap=0.5)
    args = [tensors[name] for name in ("hidden_ND", "weight_VD", "targets_N")]
    exact = [args[0].detach().double().requires_grad_(), args[1].detach().double().requires_grad_(), args[2]]
    ours, expected = token_logprobs(*args, transform=transform), plain(*exact, transform=transform)
    for actual, wanted in zip(
        [*ours, *gradients(ours, args[:2])], [*expected, *gradients(expected, exact[:2])], strict=True
    ):
        torch.testing.assert_close(actual.double(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("output", [0, 1], ids=["logp only", "entropy only"])
def test_either_output_alone_has_its_gradient(output: int) -> None:
    tensors = problem()
    args = [tensors[name] for name in ("hidden_ND", "weight_VD", "targets_N")]
    ours = torch.autograd.grad(token_logprobs(*args, chunk_tokens=4)[output].sum(), args[:2])
    expected = torch.autograd.grad(plain(*args)[output].sum(), args[:2])
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("frozen", ["hidden_ND", "weight_VD"])
def test_a_frozen_input_gets_no_gradient_and_the_other_keeps_its_own(frozen: str) -> None:
    tensors = problem()
    tensors[frozen].requires_grad_(False)
    token_logprobs(tensors["hidden_ND"], tensors["weight_VD"], tensors["targets_N"])[0].sum().backward()
    learning = ({"hidden_ND", "weight_VD"} - {frozen}).pop()
    ours = tensors[learning].grad
    expected_N, _ = plain(tensors["hidden_ND"], tensors["weight_VD"], tensors["targets_N"])
    (expected,) = torch.autograd.grad(expected_N.sum(), tensors[learning])
    assert tensors[frozen].grad is None
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def test_gradcheck() -> None:
    tensors = problem()

    def both(hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor) -> tuple[Tensor, Tensor]:
        return token_logprobs(
            hidden_ND,
            weight_VD,
            tensors["targets_N"],
            bias_V=bias_V,
            temperature_N=tensors["temperature_N"],
            chunk_tokens=4,
        )

    assert torch.autograd.gradcheck(both, [tensors["hidden_ND"], tensors["weight_VD"], tensors["bias_V"]])


def test_float32() -> None:
    tensors = problem(torch.float32)
    args = [tensors[name] for name in ("hidden_ND", "weight_VD", "targets_N")]
    exact = [args[0].detach().double().requires_grad_(), args[1].detach().double().requires_grad_(), args[2]]
    ours, expected = token_logprobs(*args, chunk_tokens=4), plain(*exact)
    assert ours[0].dtype == torch.float32
    # Logits reach about 10, where float32 rounds by 1e-6; sums of D = 5 and N = 11 terms stay within ten of these.
    for actual, wanted in zip(
        [*ours, *gradients(ours, args[:2])], [*expected, *gradients(expected, exact[:2])], strict=True
    ):
        torch.testing.assert_close(actual.double(), wanted, rtol=1e-5, atol=1e-5)


def test_nearly_certain_tokens_keep_their_small_entropy_in_float32() -> None:
    # A logit of 20 beside 49 zeros: 1 - p = 49 e^-20 / (1 + 49 e^-20) = 1.01e-7; lse - Σ p z would round it away.
    weight_VD = torch.zeros(50, 1)
    weight_VD[7] = 20.0
    _, entropy_N = token_logprobs(torch.ones(1, 1), weight_VD, torch.tensor([7]))
    rest = 49 * math.exp(-20)
    exact = math.log1p(rest) + 20 * rest / (1 + rest)
    assert entropy_N.item() == pytest.approx(exact, rel=0.1)


@pytest.mark.parametrize("weight_dtype", [torch.float32, torch.bfloat16])
def test_bfloat16_logits_with_float32_results(weight_dtype: torch.dtype) -> None:
    tensors = problem(torch.float32)
    hidden_ND = tensors["hidden_ND"].detach().bfloat16().requires_grad_()
    weight_VD = tensors["weight_VD"].detach().to(weight_dtype).requires_grad_()
    ours = token_logprobs(hidden_ND, weight_VD, tensors["targets_N"], chunk_tokens=4)
    # What nn.Linear does in bfloat16, then softmax in float32: the same rounding of the logits, so equal to float32's.
    logits_NV = (hidden_ND @ weight_VD.bfloat16().T).float()
    logp_N = logits_NV.log_softmax(-1).gather(1, tensors["targets_N"][:, None])[:, 0]
    torch.testing.assert_close(ours[0], logp_N, rtol=1e-6, atol=1e-6)
    grad_ours = torch.autograd.grad(ours[0].sum(), [hidden_ND, weight_VD])
    grad_plain = torch.autograd.grad(logp_N.sum(), [hidden_ND, weight_VD])
    assert [gradient.dtype for gradient in grad_ours] == [torch.bfloat16, weight_dtype]
    # bfloat16 keeps 8 bits: a term of size 4 rounds by up to 2^-6, and plain and chunked sums round at other places.
    for actual, wanted in zip(grad_ours, grad_plain, strict=True):
        torch.testing.assert_close(actual.float(), wanted.float(), rtol=0.02, atol=0.04)


def test_autocast_chooses_the_precision_of_the_logits() -> None:
    tensors = problem(torch.float32)
    args = [tensors[name] for name in ("hidden_ND", "weight_VD", "targets_N")]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logp_N, _ = token_logprobs(*args)
        logits_NV = torch.nn.functional.linear(args[0], args[1])
    assert logits_NV.dtype == torch.bfloat16
    expected_N = logits_NV.float().log_softmax(-1).gather(1, args[2][:, None])[:, 0]
    torch.testing.assert_close(logp_N, expected_N, rtol=1e-6, atol=1e-6)
    logp_N.sum().backward()
    assert args[1].grad is not None
    assert args[1].grad.dtype == torch.float32


@pytest.mark.parametrize("low", [-1e4, -1e30])
def test_extreme_logits_stay_finite(low: float) -> None:
    hidden_ND = torch.ones(2, 1, requires_grad=True)
    weight_VD = torch.tensor([[0.0], [low], [-low]], requires_grad=True)
    logp_N, entropy_N = token_logprobs(hidden_ND, weight_VD, torch.tensor([2, 1]))
    # The third token has all the mass; the second is 2|low| below it.
    assert logp_N.tolist() == [0.0, pytest.approx(2 * low)]
    assert entropy_N.tolist() == [0.0, 0.0]
    (logp_N.sum() + entropy_N.sum()).backward()
    assert weight_VD.grad is not None
    # d logp[1]/d z = (0, 1, -1); d logp[2]/d z = 0.
    assert weight_VD.grad[:, 0].tolist() == [0.0, 1.0, -1.0]


def test_no_tokens() -> None:
    hidden_ND, weight_VD = torch.empty(0, D, requires_grad=True), torch.ones(V, D, requires_grad=True)
    logp_N, entropy_N = token_logprobs(hidden_ND, weight_VD, torch.empty(0, dtype=torch.int64))
    assert logp_N.shape == entropy_N.shape == (0,)
    (logp_N.sum() + entropy_N.sum()).backward()
    assert weight_VD.grad is not None
    assert not weight_VD.grad.any()


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor that any operator returns."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor):
                self.numel = max(self.numel, tensor.numel())
        return result


@pytest.mark.parametrize("hidden_dtype", [torch.float32, torch.bfloat16])
def test_nothing_of_tokens_times_vocabulary_is_allocated(hidden_dtype: torch.dtype) -> None:
    tokens, vocabulary, hidden_size, chunk_tokens = 256, 100, 8, 16
    hidden_ND = torch.randn(tokens, hidden_size, dtype=hidden_dtype, requires_grad=True)
    weight_VD = torch.randn(vocabulary, hidden_size, requires_grad=True)
    temperature_N, targets_N = torch.full((tokens,), 0.7), torch.randint(vocabulary, (tokens,))
    with LargestTensor() as largest:
        logp_N, entropy_N = token_logprobs(
            hidden_ND, weight_VD, targets_N, temperature_N=temperature_N, chunk_tokens=chunk_tokens
        )
        (logp_N.sum() + entropy_N.sum()).backward()
    # A chunk of logits is 1,600 elements and the hidden states are 2,048; tokens x vocabulary would be 25,600.
    assert largest.numel == tokens * hidden_size


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_ND": torch.ones(N, D + 1)}, r"\[N, D\] and \[V, D\], not \[11, 6\] and \[7, 5\]"),
        ({"targets_N": torch.zeros(N - 1, dtype=torch.int64)}, r"targets must be \[11\].*not \[10\]"),
        ({"temperature_N": torch.ones(1)}, r"temperature must be \[11\].*not \[1\]"),
        ({"bias_V": torch.ones(N)}, r"bias must be \[7\].*not \[11\]"),
        ({"chunk_tokens": 0}, "chunk_tokens must be at least 1, not 0"),
    ],
)
def test_bad_shapes_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        token_logprobs(**{**problem(), **change})


def problem_gradients(
    weights_N: Tensor, bonus_N: Tensor | None = None, chunk_tokens: int = 4, repeats: int = 1
) -> tuple[list[Tensor], list[Tensor]]:
    """Ours and plain, of log-probs times `weights_N` plus entropies times `bonus_N`."""
    tensors = problem()
    inputs = [tensors[name] for name in ("hidden_ND", "weight_VD", "bias_V")]
    found = []
    for ours in (True, False):
        function = partial(token_logprobs, chunk_tokens=chunk_tokens) if ours else plain
        logp_N, entropy_N = function(**tensors)
        loss = (logp_N * weights_N).sum() + (0 if bonus_N is None else (entropy_N * bonus_N).sum())
        for _ in range(repeats):
            gradients = torch.autograd.grad(loss, inputs, retain_graph=True)
        found.append(list(gradients))
    return found[0], found[1]


@pytest.mark.parametrize("kept_bytes", [0, 2**20])
@pytest.mark.parametrize("chunk_tokens", [1, 4, N])
def test_tokens_without_a_gradient_are_left_out(
    kept_bytes: int, chunk_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(logprobs.KEPT_BYTES, "cpu", kept_bytes)
    some_N, few_N = torch.zeros(N, dtype=torch.float64), torch.zeros(N, dtype=torch.float64)
    some_N[[0, 5, 9]], few_N[5] = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), 1.5
    for weights_N, bonus_N in [(some_N, None), (some_N, few_N), (0 * some_N, few_N), (some_N, torch.ones_like(few_N))]:
        # Twice, for what is kept must survive a backward pass.
        ours, expected = problem_gradients(weights_N, bonus_N, chunk_tokens, repeats=2)
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


class Products(TorchDispatchMode):
    """Records the rows of every matrix product, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if str(func).startswith(("aten.mm", "aten.addmm")):
            self.rows.append(len(result))
        return result


@pytest.mark.parametrize(("kept_bytes", "forwards"), [(0, 2), (2**20, 1)])
def test_products_of_the_head(kept_bytes: int, forwards: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(logprobs.KEPT_BYTES, "cpu", kept_bytes)
    tensors = problem()
    weights_N = torch.zeros(N, dtype=torch.float64)
    weights_N[:3] = 1
    with Products() as products:
        logp_N, _ = token_logprobs(tensors["hidden_ND"], tensors["weight_VD"], tensors["targets_N"])
        (logp_N * weights_N).sum().backward()
    # Logits of all tokens; then, of the three that matter: their logits where none are kept, and two gradients.
    assert products.rows == [N, *[3] * (forwards - 1), 3, V]


def test_a_chunk_is_the_largest_power_of_two_that_its_bytes_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = problem()
    for room, rows in ((2, [2, 2, 2, 2, 2, 1]), (3, [2, 2, 2, 2, 2, 1]), (4, [4, 4, 3]), (100, [N])):
        monkeypatch.setitem(logprobs.CHUNK_BYTES, "cpu", room * V * 8)
        with Products() as products, torch.no_grad():
            token_logprobs(tensors["hidden_ND"], tensors["weight_VD"], tensors["targets_N"])
        assert products.rows == rows, room
