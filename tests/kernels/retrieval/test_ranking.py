"""Retrieval: first the filter, then what computes the same, then the nearest shapes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpapers.kernels import mini_bench, retrieve
from mlpapers.kernels.retrieval import ranking
from mlpapers.kernels.retrieval.documents import Card, Document
from mlpapers.kernels.retrieval.features import Features
from mlpapers.kernels.retrieval.ranking import shape_distance

BENCH = {task.name: task for task in mini_bench()}
shapes = st.lists(st.lists(st.integers(0, 4096), max_size=4).map(tuple), min_size=1, max_size=3)


@pytest.mark.parametrize(
    ("name", "example"),
    [
        ("elementwise_relu", "relu"),
        ("norm_softmax", "softmax"),
        ("norm_log_softmax", "softmax"),
        ("loss_mse", "mse"),
        ("fused_linear_chain", "linear_chain"),
        ("scan_masked", "cumsum"),
    ],
)
def test_the_example_that_computes_the_same_comes_first(name, example):
    found = retrieve(BENCH[name], dsl="cpp")
    assert len(found) == 3
    assert found[0].path == f"cpp/examples/torch_{example}.py"
    assert len({document.path for document in found}) == 3


@pytest.mark.parametrize("scheme", ["fused", "paper"])
def test_only_documents_of_the_language(scheme):
    found = retrieve(BENCH["norm_softmax"], dsl="cpp", k=50, scheme=scheme)
    assert found
    assert all(document.path.startswith("cpp/") for document in found)
    assert all(math.isfinite(document.score) for document in found)


def card(name, *, text="", ops=(), category="", shapes=(), dsl="x", backends=(), archs=()):
    return Card(Document("example", f"{dsl}/{name}", text), dsl, ops, category, shapes, backends, archs)


WANTED = Features({"exp": 1, "sum": 1}, "norm", ((64, 512),))


def names(found):
    return [document.path.partition("/")[2] for document in found]


def test_shapes_decide_between_equals():
    cards = [
        card("far", ops=("exp", "sum"), category="norm", shapes=((4, 9),)),
        card("near", ops=("exp", "sum"), category="norm", shapes=((64, 256),)),
        card("unknown", ops=("exp", "sum"), category="norm"),
    ]
    assert names(ranking._fused(WANTED, cards, 3))[0] == "near"


def test_category_comes_before_words():
    cards = [card("other", ops=("exp", "sum"), category="conv"), card("same", category="norm", text="rows")]
    assert names(ranking._fused(WANTED, cards, 2)) == ["same", "other"]
    assert names(ranking._fused(WANTED, cards, 1)) == ["same"]


def test_the_second_differs_from_the_first():
    """A copy of the best document is worth less than another one that fits a little worse."""
    text = "exp sum rows cache pass"
    cards = [
        card("best", ops=("exp", "sum"), text=text, shapes=((64, 512),)),
        card("copy", ops=("exp", "sum"), text=text, shapes=((64, 512),)),
        card("another", ops=("exp",), text="online merge of maxima", shapes=((64, 1024),)),
    ]
    assert names(ranking._fused(WANTED, cards, 2)) == ["best", "another"]


def test_the_filter():
    cards = [
        card("all"),
        card("cpu", backends=("cpu",)),
        card("gpu", backends=("cuda",)),
        card("z", archs=("z80",)),
    ]
    assert [c.document.path for c in ranking._usable(cards, "cpu")] == ["x/all", "x/cpu"]


def test_a_rare_language_is_crowded_out_by_the_papers_order(monkeypatch):
    """The paper ranks before it filters: thirty documents of another language leave nothing of this one."""
    ours = (card("ours", text="something else", dsl="rare"),)
    theirs = tuple(card(f"{k}", ops=("exp", "sum"), category="norm", dsl="common") for k in range(30))
    monkeypatch.setattr(ranking, "load_cards", lambda dsl: ours if dsl == "rare" else theirs)
    assert ranking._paper(WANTED, "rare", "cpu", 3, ours) == []
    assert names(ranking._fused(WANTED, ours, 3)) == ["ours"]


@given(shapes, shapes)
def test_distance_of_shapes(a, b):
    assert shape_distance(a, a) == 0.0
    assert shape_distance(a, b) == shape_distance(b, a) >= 0.0


def test_distance_by_hand():
    assert shape_distance([(64, 512)], [(16, 1024)]) == 3.0
    assert shape_distance([(64,)], [(64,), (2, 2)]) == 8.0 + 2.0 * 0.0
    assert shape_distance([], [(3,)]) == math.inf


def test_bad_arguments():
    task = BENCH["elementwise_relu"]
    with pytest.raises(TypeError, match="task must be a Task"):
        retrieve("relu", dsl="cpp")
    with pytest.raises(ValueError, match="scheme"):
        retrieve(task, dsl="cpp", scheme="best")
    with pytest.raises(ValueError, match="k must"):
        retrieve(task, dsl="cpp", k=0)
    with pytest.raises(ValueError, match="dsl"):
        retrieve(task, dsl="fortran")
    with pytest.raises(FileNotFoundError, match="docs"):
        retrieve(task, dsl="cpp", docs="nowhere")
