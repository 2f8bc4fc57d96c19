"""Answers are read strictly: what is no kernel is a BadAnswer with its reason, never an exception."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpapers.kernels.agents.answers import (
    Block,
    blocks,
    joined,
    read_blocks,
    read_code,
    read_proposal,
    without_assignment,
    without_thinking,
)
from mlpapers.kernels.agents.messages import BadAnswer, from_json, to_json

KERNEL = "import torch\n\n\nclass ModelNew(torch.nn.Module):\n    pass\n"
OTHER = KERNEL.replace("pass", "x = 1\n    y = 2")


def fenced(text, tag="python", fence="```"):
    return f"{fence}{tag}\n{text}{fence}\n"


@pytest.mark.parametrize(
    "answer",
    [
        fenced(KERNEL),
        fenced(KERNEL, ""),
        fenced(KERNEL, "Python"),
        fenced(KERNEL, "cpp"),
        fenced(KERNEL, "python", "~~~~"),
        "Sure!\n" + fenced(KERNEL) + "Hope it helps.",
        "<think>" + fenced(OTHER) + "</think>" + fenced(KERNEL),
        fenced(OTHER) + "No, better:\n" + fenced(KERNEL),
        fenced(OTHER, "rust") + fenced(KERNEL),
        fenced("print(1)\n" * 40) + fenced(KERNEL),
        fenced(KERNEL) + "Use it so:\n" + fenced("ModelNew()\n"),
        fenced(KERNEL) + "and then\n```python\nmodel = Model",
        KERNEL,
        fenced(KERNEL).replace("\n", "\r\n").replace("\r\n", "\n"),
    ],
    ids=[
        "python", "no-tag", "case", "cpp", "tilde", "prose", "thinking", "last", "language", "larger-other",
        "usage-after", "cut-after", "bare", "newlines",
    ],
)  # fmt: skip
def test_the_kernel_is_found(answer):
    assert read_code(answer, "cpp") == KERNEL


def test_the_largest_block_where_no_tag_fits():
    answer = fenced(KERNEL, "text") + fenced(OTHER, "text") + fenced(KERNEL, "output")
    assert read_code(answer, "cpp") == OTHER


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("<think>hm", "empty"),
        ("I cannot do that.", "no_code"),
        ("sorry", "no_code"),
        (fenced("x = 1\n"), "no_code"),
        (fenced("# class ModelNew\n"), "no_code"),
        (fenced(KERNEL.replace("pass", "(")), "no_python"),
        ("```python\n" + KERNEL, "truncated"),
        (fenced("x = 1\n") + "```\nclass ModelNew:\n    def", "truncated"),
    ],
    ids=["empty", "blank", "thinking", "prose", "word", "other", "comment", "syntax", "cut", "cut-later"],
)
def test_what_is_no_kernel(answer, reason):
    found = read_code(answer, "cpp")
    assert isinstance(found, BadAnswer)
    assert found.reason == reason
    assert found.detail
    assert from_json(to_json(found)) == found


@given(st.text(max_size=200) | st.text(alphabet="`~ \nclas ModelNew():thinkpyo<>/", max_size=200))
def test_nothing_raises(answer):
    found = read_code(answer, "cpp", source_variable="_CPP")
    if isinstance(found, str):
        ast.parse(found)
        assert "class ModelNew" in found
    for block in blocks(answer):
        assert block.text in answer
    read_proposal(answer)
    joined(answer, answer)


@given(st.text(alphabet="abc`\n #", max_size=60), st.sampled_from(["python", "cpp", ""]))
def test_blocks_give_back_what_was_fenced(text, tag):
    # A longer fence than any inside.
    body = text.rstrip("\n") + "\n"
    found = blocks("before\n" + fenced(body, tag, "`" * 61) + "after")
    assert found == [Block(tag, body)]


def test_a_source_in_a_block_of_its_own():
    source = 'extern "C" void kernel_0() {}\n'
    code = read_code(fenced(source, "cpp") + fenced(KERNEL), "cpp", source_variable="_CPP")
    namespace = {}
    exec(code.partition("import torch")[0], namespace)
    assert namespace["_CPP"].strip() == source.strip()
    assert code.endswith(KERNEL)
    # The Python block has it already: it stands.
    own = f'_CPP = "mine"\n{KERNEL}'
    assert read_code(fenced(source, "cpp") + fenced(own), "cpp", source_variable="_CPP") == own
    assert read_code(fenced(source, "cpp") + fenced(KERNEL), "triton") == KERNEL


@pytest.mark.parametrize("source", ['a """ b\n', 'ends with "', "ends with \\", "\\n stays\n"], ids=str)
def test_no_source_breaks_out_of_its_literal(source):
    code = read_code(fenced(source + "\n", "cpp") + fenced(KERNEL), "cpp", source_variable="_CPP")
    value = next(node for node in ast.parse(code).body if isinstance(node, ast.Assign)).value
    assert source.strip() in ast.literal_eval(value)


def test_thinking():
    assert without_thinking("a<think>b\nc</think>d") == "ad"
    assert without_thinking("hm hm</think>answer") == "answer"
    assert without_thinking("answer<THINK>never ends") == "answer"
    assert without_thinking("a < b and c > d") == "a < b and c > d"


def test_continuations():
    first = "Here:\n```python\nclass ModelNew:\n    def forward(self, x):\n        return x"
    rest = " + 1\n```\n"
    whole = first + rest
    assert joined(first, rest) == whole
    # It repeats its last line, or opens the block anew.
    assert joined(first, "        return x + 1\n```\n") == whole
    assert joined(first + "\n", "```python\n        y = 2\n```\n") == first + "\n        y = 2\n```\n"
    assert joined("no block", "```python\nx\n```\n") == "no block```python\nx\n```\n"


def test_tagged_blocks_and_proposals():
    answer = "```hints\n- a\n```\n```sketch\nb\n```\n```hints\n- c\n"
    assert read_blocks(answer, "hints") == "- a\n"
    assert read_blocks(answer, "sketch") == "b\n"
    assert read_blocks(answer, "code") is None
    assert read_proposal("x\n**Next: Designer**") == "designer"
    assert read_proposal("next: coder\nnext: tuner") == "tuner"
    assert read_proposal("next: the president") == ""


def test_assignments_are_taken_out():
    code = "x = 1\n_FLAGS = (\n    'a',\n    'b',\n)\ny = 2\n_FLAGS = 'c'\n"
    assert without_assignment(code, "_FLAGS") == "x = 1\ny = 2\n"
    assert without_assignment(code, "z") == code
