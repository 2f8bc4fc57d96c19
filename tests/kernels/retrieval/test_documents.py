"""Folders of documents: what they must hold and say about themselves; the examples are right."""

import pytest

from mlpapers.core.requirements import missing_requirement
from mlpapers.kernels import DSL, Document, Task, mini_bench, register_dsl, verify
from mlpapers.kernels.agents.messages import from_json, to_json
from mlpapers.kernels.dsl import get_dsl
from mlpapers.kernels.retrieval.documents import KINDS, hardware_text, load_cards

needs_compiler = pytest.mark.skipif(bool(missing_requirement("cxx")), reason="needs a C++ compiler")
BENCH = {task.name: task for task in mini_bench()}
# Each example of the folder and the task that it solves.
SOLVES = {
    "torch_relu.py": BENCH["elementwise_relu"],
    "torch_softmax.py": BENCH["norm_softmax"],
    "torch_mse.py": BENCH["loss_mse"],
    "torch_linear_chain.py": BENCH["fused_linear_chain"],
    "torch_cumsum.py": Task.from_source(
        "import torch\nclass Model(torch.nn.Module):\n    def forward(self, x):\n"
        "        return torch.cumsum(x, -1)\ndef get_inputs():\n    return [torch.randn(33, 129)]\n",
        "cumsum",
    ),
}


class Bare(DSL):
    name = "bare"
    backends = ("cpu",)

    def render(self, sketch, params, backend):
        raise NotImplementedError

    def space(self, sketch, backend):
        return {}

    def available(self, backend):
        return False, "for tests"


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A language that is registered at run time, and its folder."""
    from mlpapers.kernels.dsl import base

    monkeypatch.setattr(base, "_DSLS", dict(base._DSLS))
    (tmp_path / "bare").mkdir()
    register_dsl("bare", type("Here", (Bare,), {"docs": tmp_path / "bare"}))
    return tmp_path / "bare"


def test_a_language_of_ones_own(bare):
    with pytest.raises(ValueError, match=r"basic_docs\.md is missing"):
        load_cards("bare")
    (bare / "basic_docs.md").write_text(
        "<!-- ops: exp, sum; category: norm;\n backends: cpu, cuda -->\n# bare\n"
    )
    (bare / "api").mkdir()
    (bare / "api" / "a.md").write_text("no comment: ops: are no words about the document\n")
    (bare / "examples").mkdir()
    (bare / "examples" / "torch_x.py").write_text(
        '"""An example.\n\nops: mm\nshapes: (8, 16), (), (3,)\narch: sm_90, any\n"""\n'
    )
    (bare / "examples" / "torch_broken.py").write_text("def (\n")
    basic, api, broken, example = load_cards("bare")
    assert (basic.ops, basic.category, basic.backends) == (("exp", "sum"), "norm", ("cpu", "cuda"))
    assert [card.document.kind for card in (basic, api, broken, example)] == [
        "basic",
        "api",
        "example",
        "example",
    ]
    assert api.ops == broken.ops == ()
    assert example.shapes == ((8, 16), (), (3,))
    assert example.archs == ("sm_90",)
    assert example.document.path == "bare/examples/torch_x.py"


def test_further_documents(bare, tmp_path):
    (bare / "basic_docs.md").write_text("# bare\n")
    mine = tmp_path / "mine"
    (mine / "bare" / "examples").mkdir(parents=True)
    (mine / "bare" / "examples" / "torch_y.py").write_text('"""Mine."""\n')
    assert [card.document.path for card in load_cards("bare", mine)] == [
        "bare/basic_docs.md",
        "bare/examples/torch_y.py",
    ]
    assert len(load_cards("bare", mine / "bare")) == 2
    with pytest.raises(FileNotFoundError, match="docs"):
        load_cards("bare", tmp_path / "nowhere")


def test_every_kind_is_there_for_cpp():
    kinds = [card.document.kind for card in load_cards("cpp")]
    assert set(kinds) == set(KINDS)
    assert "float32" in hardware_text("cpp", "x86_64")
    assert hardware_text("cpp", "z80") == ""


def test_documents_are_messages():
    document = Document("api", "cpp/api/host.md", "text", 0.5)
    assert from_json(to_json(document)) == document


def test_no_example_is_forgotten():
    names = {
        card.document.path.rpartition("/")[2] for card in load_cards("cpp") if card.document.kind == "example"
    }
    assert names == set(SOLVES)


@needs_compiler
@pytest.mark.parametrize("name", sorted(SOLVES))
def test_examples_are_right(name):
    """What a language model is shown passes the verifier."""
    text = next(card.document.text for card in load_cards("cpp") if card.document.path.endswith(name))
    code = f"{get_dsl('cpp').loader}\n{text}"
    verdict = verify(SOLVES[name], code, dsl="cpp", timing=False, n_correct=2, random_state=0)
    assert verdict.ok, verdict
