"""Prompts hold the documents, the task and the error; never a folder of this machine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpapers.kernels import Design, Sketch, mini_bench
from mlpapers.kernels.agents import prompts
from mlpapers.kernels.agents.messages import Feedback, TaskSpec
from mlpapers.kernels.agents.prompts import Material, cleaned
from mlpapers.kernels.retrieval.documents import Document

TASK = {task.name: task for task in mini_bench()}["norm_softmax"]
SPEC = TaskSpec(TASK)
MATERIAL = Material(
    "the basics", "the advice", (Document("example", "cpp/examples/torch_a.py", "an example"),), "a device"
)
DESIGN = Design(Sketch("s", host="secret host"), hints=("keep the row", "split it"))


def texts(messages):
    assert all(set(message) == {"role", "content"} for message in messages)
    return [message["role"] for message in messages], "\n".join(message["content"] for message in messages)


def test_the_coder_is_told_everything():
    roles, text = texts(prompts.code_messages(SPEC, MATERIAL, DESIGN, "", None))
    assert roles == ["system", "user"]
    for part in (
        "the basics",
        "the advice",
        "an example",
        TASK.resolved_source.strip(),
        "- keep the row",
        "cpp",
    ):
        assert part in text
    assert "secret host" not in text


def test_the_coder_is_told_what_went_wrong():
    feedback = Feedback("compile", "expected ';'")
    roles, text = texts(prompts.code_messages(SPEC, MATERIAL, DESIGN, "class ModelNew: pass", feedback))
    assert roles == ["system", "user", "assistant", "user"]
    assert text.index("class ModelNew: pass") < text.index("expected ';'")
    roles, text = texts(prompts.code_messages(SPEC, MATERIAL, DESIGN, "", Feedback("hack", "l2_persistence")))
    assert roles == ["system", "user", "user"]
    assert "dropped" in text
    assert "l2_persistence" in text


@pytest.mark.parametrize("library_ops", ["none", "contractions", "any"])
@pytest.mark.parametrize("shape_policy", ["batch", "static", "dynamic"])
def test_the_rules_of_the_game_are_said(library_ops, shape_policy):
    spec = TaskSpec(TASK, library_ops=library_ops, shape_policy=shape_policy)
    _, text = texts(prompts.code_messages(spec, Material(), None, "", None))
    assert prompts._POLICY[library_ops] in text
    assert prompts._SHAPES[shape_policy] in text


def test_the_designer_and_the_adviser():
    _, text = texts(prompts.design_messages(SPEC, MATERIAL, DESIGN, Feedback("timeout", "too slow")))
    for part in ("```hints", "```sketch", "the advice", "a device", "too slow"):
        assert part in text
    _, text = texts(prompts.analysis_messages(SPEC, "the code", Feedback("oom", "too large")))
    for part in ("the code", "too large", "next: coder"):
        assert part in text
    messages = prompts.continuation([{"role": "user", "content": "q"}], "half")
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]


def test_documents_are_gathered():
    material = prompts.gather(SPEC)
    assert "ModelNew" in material.basic
    assert material.advice
    assert material.names[0] == "cpp/examples/torch_softmax.py"
    assert len(material.found) == 3
    assert all(item.kind in ("api", "example") for item in material.found)
    assert "cores" in material.hardware
    assert prompts.gather(SPEC) == material


def test_errors_are_cleaned():
    text = (
        'File "/tmp/mlpapers-x/job 1/candidate.py", line 130, in forward\n<Tensor object at 0x7fedcba98765>'
    )
    told = cleaned(text, first_line=112)
    assert "line 18" in told
    assert "0x7fedc" not in told
    assert cleaned("/home/me/cache/k.cpp:3:1: no") == "k.cpp:3:1: no"
    assert cleaned("line 5 of ours", first_line=112) == "line 5 of ours"
    assert cleaned("a / b and 1/2") == "a / b and 1/2"
    long = "\n".join(f"row {k}" for k in range(500))
    assert "[440 lines left out]" in cleaned(long)


@given(st.lists(st.sampled_from(["home", "tmp", "a.cpp", "x-1"]), min_size=2, max_size=6))
def test_no_folder_is_left(parts):
    assert cleaned("in /" + "/".join(parts) + ": error") == f"in {parts[-1]}: error"
