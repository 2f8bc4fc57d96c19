"""The fused scaling and its own backward pass, against autograd through the plain formula."""

import pytest
import torch

from mlpapers.attention._fold import _Fold, fold, scale_rows, token_part


def tensors(dtype=torch.float64, requires_grad=True):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_(requires_grad)

    return draw(2, 3, 4, 5), draw(2, 3, 4, 5), draw(3, 1, 5), draw(3, 1), draw(2, 3, 4)


def test_gradients_by_finite_differences():
    x, features, weight, bias, base = tensors()
    assert torch.autograd.gradcheck(lambda *a: _Fold.apply(a[0], None, *a[1:]), (x, weight, bias, base))
    assert torch.autograd.gradcheck(_Fold.apply, (x, features, weight, bias, base))
    # What broadcasts gets the sum over what it was spread along.
    short = torch.randn(3, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *a: _Fold.apply(a[0], None, a[1], None, a[2]), (x, weight, short))
    # A weight of every row of its own is summed over nothing.
    assert torch.autograd.gradcheck(
        lambda *a: _Fold.apply(a[0], None, a[1], None, a[2]), (x, features, short)
    )


def test_second_derivatives():
    x, features, weight, bias, base = (t[..., :2, :2] if t.ndim == 4 else t for t in tensors())
    inputs = [t.detach().requires_grad_() for t in (x, features, weight[..., :2], bias, base[..., :2])]
    assert torch.autograd.gradgradcheck(_Fold.apply, inputs)
    x, _, weight, bias, base = inputs
    assert torch.autograd.gradgradcheck(
        lambda *a: _Fold.apply(a[0], None, a[1], None, a[2]), (x, weight, base)
    )


def test_transforms_of_functions():
    x, _, weight, bias, base = tensors(requires_grad=False)

    def loss(rows, own):
        return fold(rows, base[0, 0], weight=own[0, 0], bias=bias[0, 0]).square().sum()

    expected = [torch.autograd.functional.jacobian(lambda w, r=rows: loss(r, w), weight) for rows in x[:, 0]]
    per_row = torch.func.vmap(torch.func.grad(loss, argnums=1), in_dims=(0, None))(x[:, 0], weight)
    torch.testing.assert_close(per_row, torch.stack(expected))


@pytest.mark.parametrize("rows_swapped", [False, True])
@pytest.mark.parametrize("upstream_swapped", [False, True])
def test_gradients_do_not_depend_on_the_order_in_memory(rows_swapped, upstream_swapped):
    x, upstream, weight, _, base = tensors()

    def laid_out(t, swapped):
        return t.transpose(1, 2).contiguous().transpose(1, 2) if swapped else t

    rows = laid_out(x.detach(), rows_swapped).requires_grad_()
    expected = torch.autograd.grad(scale_rows(x, base + token_part(x, weight)), (x, weight, base), upstream)
    found = torch.autograd.grad(
        fold(rows, base, weight=weight), (rows, weight, base), laid_out(upstream, upstream_swapped)
    )
    for a, b in zip(found, expected):
        # Sums of at most 40 products in another order.
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("with_features", [False, True])
def test_same_as_autograd_through_the_formula(with_features):
    x, features, weight, bias, base = tensors(torch.float32)
    given = features if with_features else None
    inputs = [x, weight, bias, base, *([features] if with_features else [])]
    ours = fold(x, base, features=given, weight=weight, bias=bias)
    plain = scale_rows(x, base + token_part(x if given is None else given, weight, bias))
    torch.testing.assert_close(ours, plain, rtol=0, atol=0)
    upstream = torch.randn_like(plain)
    for a, b in zip(
        torch.autograd.grad(ours, inputs, upstream), torch.autograd.grad(plain, inputs, upstream)
    ):
        # Sums of at most 40 products in another order.
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_only_rows_and_temperatures_are_kept():
    x, _, weight, bias, base = tensors(torch.float32)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        fold(x, base, weight=weight, bias=bias)
    wide = [t for t in kept if t.numel() >= x.numel()]
    assert [t.data_ptr() for t in wide] == [x.data_ptr()]


def test_half_precision_rows_keep_their_dtype():
    x, _, weight, _, base = (t.detach() for t in tensors(torch.float32))
    y = fold(x.bfloat16(), base, weight=weight)
    assert y.dtype == torch.bfloat16
    # Temperatures are computed in float32 and rounded once: one relative rounding each for x, tau, product.
    torch.testing.assert_close(y.float(), fold(x, base, weight=weight), rtol=4 * 2.0**-8, atol=2e-2)
