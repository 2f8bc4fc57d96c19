"""Strided layouts against NumPy's own views."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlpapers.kernels.graph.layout import Layout

shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


def strided(layout, base):
    width = base.itemsize
    return np.lib.stride_tricks.as_strided(
        base.reshape(-1)[layout.offset :], layout.shape, tuple(s * width for s in layout.strides)
    )


@given(shape=shapes, data=st.data())
def test_views_are_numpys(shape, data):
    base = np.arange(np.prod(shape)).reshape(shape)
    view, layout = base, Layout.contiguous(shape)
    for _ in range(data.draw(st.integers(0, 4))):
        dim = data.draw(st.integers(0, view.ndim - 1))
        kind = data.draw(st.sampled_from(["permute", "slice", "flip", "expand"]))
        if kind == "permute":
            order = data.draw(st.permutations(range(view.ndim)))
            view, layout = view.transpose(order), layout.permute(order)
        elif kind == "slice":
            start = data.draw(st.integers(0, view.shape[dim] - 1))
            view = np.take(view, range(start, view.shape[dim]), dim)
            layout = layout.slice(dim, start, layout.shape[dim] - start, 1)
        elif kind == "flip":
            view, layout = np.flip(view, dim), layout.flip([dim])
        else:
            view, layout = np.broadcast_to(view, (2, *view.shape)), layout.expand((2, *layout.shape))
    np.testing.assert_array_equal(strided(layout, base), view)


@given(shape=shapes, data=st.data())
def test_reshape_is_right_or_refused(shape, data):
    base = np.arange(np.prod(shape)).reshape(shape)
    order = data.draw(st.permutations(range(len(shape))))
    layout = Layout.contiguous(shape).permute(order)
    flat = (int(np.prod(shape)),)
    reshaped = layout.reshape(flat)
    if reshaped is not None:
        np.testing.assert_array_equal(strided(reshaped, base), base.transpose(order).reshape(flat))
    whole = Layout.contiguous(shape).reshape(flat)
    assert whole is not None
    assert whole.is_contiguous
