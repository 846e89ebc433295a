"""oneDNN's products in place of MKL's: the same numbers and gradients, however the operands lie in memory."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from unigrad.data.tiny import MODEL_PATH
from unigrad.policy import find_architecture, load_policy, products
from unigrad.policy.adapter import linear_layers
from unigrad.policy.products import OnednnLinear, add_outer_, linear, multiply_fast

pytestmark = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="oneDNN is tried on x86 processors only"
)
# Float32's rounding, by the largest sums here: some 10 standard deviations of √3,000 terms.
CLOSE = {"rtol": 1e-5, "atol": 2e-4}


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor where oneDNN's are faster, for products of any size, in blocks of few rows."""
    monkeypatch.setattr(products, "is_faster", lambda: True)
    monkeypatch.setattr(products, "_BLOCKS", (8, 4, 1))
    monkeypatch.setattr(products, "_LEAST_WEIGHTS", 1)
    monkeypatch.setattr(products, "_LEAST_SUMMED", 1)
    monkeypatch.setattr(products, "_ROWS", 7)


def random(rows: int, columns: int) -> Tensor:
    torch.manual_seed(100 * rows + columns)
    return torch.randn(rows, columns)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "whole": lambda matrix: matrix,
    "transposed": lambda matrix: matrix.T.contiguous().T,
    "columns of a wider one": lambda matrix: torch.cat([matrix, matrix], 1)[:, : matrix.shape[1]],
    "rows of a taller one, transposed": lambda matrix: torch.cat([matrix, matrix]).T.contiguous().T[: len(matrix)],
    "every other column": lambda matrix: matrix.repeat_interleave(2, 1)[:, ::2],
    "expanded": lambda matrix: matrix[:, :1].expand_as(matrix),
}
SIZES = [(5, 3, 4), (8, 9, 7), (9, 1, 7), (64, 48, 1), (1, 1, 1), (29, 257, 33)]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("of_input", LAYOUTS)
@pytest.mark.parametrize("of_weight", LAYOUTS)
@pytest.mark.usefixtures("fast")
def test_products_whatever_lies_between_numbers(sizes: tuple[int, int, int], of_input: str, of_weight: str) -> None:
    rows, inputs, outputs = sizes
    input, weight = LAYOUTS[of_input](random(rows, inputs)), LAYOUTS[of_weight](random(outputs, inputs))
    bias = torch.randn(outputs)
    expected = input.double() @ weight.double().T
    torch.testing.assert_close(linear(input, weight).double(), expected, **CLOSE)
    torch.testing.assert_close(linear(input, weight, bias).double(), expected + bias, **CLOSE)
    left = LAYOUTS[of_weight](random(rows, outputs))
    total = torch.full((outputs, inputs), 2.0)
    add_outer_(total, left, input)
    torch.testing.assert_close(total.double(), left.double().T @ input.double() + 2, **CLOSE)


@pytest.mark.parametrize(("rows", "expected"), [(21, [8, 8, 4, 1]), (8, [8]), (3, [1, 1, 1])])
@pytest.mark.usefixtures("fast")
def test_onednn_meets_few_shapes(rows: int, expected: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    met, product = list[int](), products.product

    def recording(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        met.append(len(input))
        return product(input, weight, bias)

    monkeypatch.setattr(products, "product", recording)
    linear(random(rows, 6), random(5, 6))
    assert met == expected


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.usefixtures("fast")
def test_outer_products_of_other_precisions(dtype: torch.dtype) -> None:
    left, right = random(17, 30).to(dtype), random(17, 5).to(dtype)
    total = torch.full((30, 5), 2.0, dtype=torch.promote_types(dtype, torch.float32))
    add_outer_(total, left, right)
    tolerance = {"rtol": 1e-2, "atol": 0.1} if dtype == torch.bfloat16 else CLOSE
    torch.testing.assert_close(total.double(), left.double().T @ right.double() + 2, **tolerance)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(24,), (9, 24), (3, 5, 24), (1, 1, 24), (2, 3, 2, 24)])
@pytest.mark.usefixtures("fast")
def test_a_layer_and_its_gradients(bias: bool, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 40, bias=bias), nn.Tanh(), nn.Linear(40, 8, bias=bias))
    exact = copy.deepcopy(model).double()
    multiply_fast(model)
    assert [type(layer) for layer in model] == [OnednnLinear, nn.Tanh, OnednnLinear]
    inputs = torch.randn(shape)
    for loss in (Tensor.sum, lambda each: each.square().sum(), lambda each: each.transpose(0, -1).cos().sum()):
        results = []
        for module, dtype in ((model, torch.float32), (exact, torch.float64)):
            given = inputs.to(dtype, copy=True).requires_grad_()
            module.zero_grad()
            loss(module(given)).backward()
            results.append([given.grad, *(parameter.grad for parameter in module.parameters())])
        for found, expected in zip(*results, strict=True):
            torch.testing.assert_close(found.double(), expected, **CLOSE)


@pytest.mark.usefixtures("fast")
def test_a_frozen_layer_takes_no_gradient_and_gives_one() -> None:
    layer = nn.Linear(16, 8)
    multiply_fast(layer)
    layer.requires_grad_(requires_grad=False)
    given = torch.randn(4, 16, requires_grad=True)
    layer(given).sum().backward()
    torch.testing.assert_close(given.grad, layer.weight.sum(0).expand(4, -1))
    assert layer.weight.grad is None
    with torch.no_grad():
        assert not layer(given).requires_grad


@pytest.mark.usefixtures("fast")
def test_what_is_not_float32_goes_the_usual_way(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Linear(16, 8)
    multiply_fast(layer)
    monkeypatch.setattr(products, "product", lambda *_: pytest.fail("oneDNN multiplies"))
    given = torch.randn(4, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(given).dtype == torch.bfloat16
    layer.double()
    assert layer(given.double()).dtype == torch.float64
    assert linear(given.double(), given.double()).dtype == torch.float64


@pytest.mark.usefixtures("fast")
def test_only_plain_layers_are_changed() -> None:
    class Own(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    model = nn.ModuleList([Own(4, 4), nn.Embedding(4, 4), nn.Linear(4, 4)])
    multiply_fast(model)
    assert [type(layer) for layer in model] == [Own, nn.Embedding, OnednnLinear]


def test_nothing_is_changed_where_mkl_is_as_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Linear(4, 4)
    monkeypatch.setattr(products, "is_faster", lambda: False)
    multiply_fast(layer)
    assert type(layer) is nn.Linear
    monkeypatch.setattr(products, "product", lambda *_: pytest.fail("oneDNN multiplies"))
    assert linear(torch.ones(300, 300), torch.ones(300, 300)).sum() == 300**3


@pytest.mark.usefixtures("fast")
def test_a_loaded_policy_multiplies_so() -> None:
    model = load_policy(str(MODEL_PATH), device="cpu").model
    assert {type(each) for each in model.modules() if isinstance(each, nn.Linear)} == {OnednnLinear}


@pytest.mark.usefixtures("fast")
def test_an_adapter_fits_its_layers() -> None:
    model = load_policy(str(MODEL_PATH), device="cpu").model
    skeleton = find_architecture(str(MODEL_PATH))[0]
    assert linear_layers(model, ()).keys() == linear_layers(skeleton, ()).keys()
