"""The static policy: each rule has a text that breaks it and a look-alike that does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_support import HEAD, model

from mlpapers.kernels.verify import static
from mlpapers.kernels.verify._source import strip_c
from mlpapers.kernels.verify.static import static_check


def check_text(code, **options):
    return static.check_text(code, modules=static._MODULES | {"numpy"}, **options)


CPP = 'SOURCE = r"""\nextern "C" void f(float* x) {\n  %s\n}\n"""'

# Rule -> (text that breaks it, look-alike that does not)
RULES = {
    "subclass_reference": (
        HEAD + "class Model(nn.Module):\n    pass\nclass ModelNew(Model):\n    pass",
        HEAD + "class Modelled(nn.Module):\n    pass\nclass ModelNew(nn.Module):\n    pass",
    ),
    "missing_model": (HEAD + "class ModelNew2(nn.Module):\n    pass", model("return x")),
    "torch_op": (
        model("return torch.nn.functional.relu(x)"),
        model('"""Like torch.relu(x)."""\n# torch.relu(x)\nreturn torch.empty_like(x).view(-1)'),
    ),
    "torch_compile": (
        model("return f(x)", before="f = torch.compile(lambda x: x)"),
        model("return self.compile(x)", before="", init="self.compile = len"),
    ),
    "dynamic_code": (
        model("return eval('x')"),
        model("return self.eval_count", init="self.eval_count = 1"),
    ),
    "getattr": (
        model("return getattr(torch, 're' + 'lu')(x)"),
        model("return getattr(self, 'weight')", init="self.weight = 1"),
    ),
    "try_except": (
        model("try:\n    return f(x)\nexcept RuntimeError:\n    return x"),
        model("try:\n    return f(x)\nfinally:\n    pass"),
    ),
    "introspection": (
        model("return torch.relu.__globals__"),
        model("return type(self).__name__"),
    ),
    "patches_module": (
        model("return x", before="import math\nmath.exp = None\ntorch.allclose = lambda *a: True"),
        model("return x", before="import math\nexp = math.exp"),
    ),
    "seeding": (model("torch.manual_seed(0)\nreturn x"), model("return x", init="manual_seed = 0")),
    "global_state": (
        model("return x", before="torch.backends.cuda.matmul.allow_tf32 = True"),
        model("return x", before="allow_tf32 = torch.backends.cuda.matmul.allow_tf32"),
    ),
    "file_access": (model("return open('x')"), model("return self.open(x)")),
    "import": (model("return x", before="import subprocess"), model("return x", before="import math")),
    "tensor_subclass": (
        model("return x", before="class Lazy(torch.Tensor):\n    pass"),
        model("return x", before="class Lazy(nn.Module):\n    pass"),
    ),
    "overrides_call": (
        HEAD + "class ModelNew(nn.Module):\n    def __call__(self, x):\n        return x",
        HEAD + "class ModelNew(nn.Module):\n    def call(self, x):\n        return x",
    ),
    "overrides_state": (
        HEAD + "class ModelNew(nn.Module):\n    def load_state_dict(self, state):\n        pass",
        HEAD + "class ModelNew(nn.Module):\n    def load(self, state):\n        pass",
    ),
    "async": (
        HEAD + "class ModelNew(nn.Module):\n    async def forward(self, x):\n        return x",
        model("asynchronous = 1\nreturn x"),
    ),
    "side_stream": (
        model("s = torch.cuda.Stream()\nreturn x"),
        model("return x", before="# torch.cuda.Stream()"),
    ),
    "l2_persistence": (
        model("return x", before=CPP % "cudaDeviceSetLimit(cudaLimitPersistingL2CacheSize, 1);"),
        model("return x", before=CPP % "// cudaLimitPersistingL2CacheSize is not used here"),
    ),
    "thread": (
        model("return x", before=CPP % "std::thread t(g); t.detach();"),
        model("return x", before=CPP % "/* no std::thread */ int threads = 4;"),
    ),
    "process": (
        model("return x", before=CPP % 'system("true");'),
        model("return x", before=CPP % 'const char* s = "system(x)"; int system_size = 1;'),
    ),
    "network": (
        model("return x", before=CPP % "int s = socket(2, 1, 0);"),
        model("return x", before=CPP % "int sockets = 1;"),
    ),
    "environment": (
        model("return x", before=CPP % 'getenv("HOME");'),
        model("return x", before=CPP % "int environment = 0;"),
    ),
    "patches_clock": (
        model("return x", before=CPP % "clock_settime(0, 0);"),
        model("return x", before=CPP % "int clock = 0;"),
    ),
    "syntax": ("class ModelNew(:", model("return x")),
    "empty": ("  \n", model("return x")),
}


@pytest.mark.parametrize("rule", sorted(RULES))
def test_each_rule(rule):
    broken, fine = RULES[rule]
    assert rule in {issue.rule for issue in check_text(broken)}
    assert check_text(fine) == []


def test_an_argument_may_have_the_name_of_a_builtin():
    forward = "def forward(self, input, open={default}):\n        return input + open"
    source = "from torch import nn\n\n\nclass ModelNew(nn.Module):\n    " + forward + "\n"
    assert static_check(source.format(default="1"), dsl="cpp") == []
    issues = static_check(source.format(default="open"), dsl="cpp")
    assert [(issue.rule, issue.line) for issue in issues] == [("file_access", 5)]


def test_issues_carry_the_line():
    text = HEAD + "\nclass ModelNew(nn.Module):\n    def forward(self, x):\n        return torch.relu(x)\n"
    (issue,) = check_text(text)
    assert text.splitlines()[issue.line - 1].strip() == "return torch.relu(x)"
    assert str(issue).startswith(f"line {issue.line}: torch.relu")


def test_lines_in_embedded_text():
    text = model("return x", before=CPP % "int a;\n  std::thread t;")
    (issue,) = check_text(text)
    assert "std::thread" in text.splitlines()[issue.line - 1]


@pytest.mark.parametrize(
    "body",
    [
        "return r(x)",
        "return F.relu(x)",
        "return nn.functional.relu(x)",
        "return f(x)",
        "return torch.ops.aten.relu.default(x)",
        "return nn.ReLU()(x)",
        "return torch._C._nn.gelu(x)",
    ],
)
def test_names_are_resolved(body):
    before = "import torch.nn.functional as F\nfrom torch import relu as r\nf = torch.relu"
    found = {issue.rule for issue in check_text(model(body, before=before))}
    assert ("torch_op" in found) != (body == "return nn.ReLU()(x)")


@pytest.mark.parametrize(
    ("body", "init", "allowed"),
    [
        ("return torch.matmul(x, x)", "", ("contractions", "any")),
        ("return torch.ops.aten.addmm.default(x, x, x)", "", ("contractions", "any")),
        ("return self.layer(x)", "self.layer = nn.Linear(2, 2)", ("contractions", "any")),
        ("return self.layer(x)", "self.layer = nn.ReLU()", ("any",)),
        ("return self.layer.forward(x)", "self.layer = nn.GELU()", ("any",)),
        ("return x.view(-1)", "self.layer = nn.ReLU()", ("none", "contractions", "any")),
        ("return torch.softmax(x, 0)", "", ("any",)),
    ],
)
def test_library_ops(body, init, allowed):
    for library_ops in ("none", "contractions", "any"):
        issues = check_text(model(body, init=init), library_ops=library_ops)
        assert (not issues) == (library_ops in allowed)


def test_constructors_may_use_torch():
    assert (
        check_text(model("return x", init="self.weight = nn.Parameter(torch.randn(3).relu().softmax(0))"))
        == []
    )


def test_our_own_loader_is_not_judged():
    loader = "import subprocess\n\ndef _load():\n    return subprocess\n"
    assert check_text(loader + model("return x"), loader=loader) == []
    changed = loader.replace("return", "return  ")
    assert {issue.rule for issue in check_text(changed + model("return x"), loader=loader)} == {"import"}
    assert [issue.rule for issue in check_text(loader * 2 + model("return x"), loader=loader)] == ["import"]


@given(st.text(alphabet="abc/*\"\\\n(){};' ", max_size=60))
def test_strip_c_keeps_the_lines(text):
    assert strip_c(text).count("\n") <= text.count("\n")
    assert "/*" not in strip_c(text) or "*/" not in strip_c(text).partition("/*")[2] or '"' in text


def test_arguments():
    with pytest.raises(ValueError, match="library_ops"):
        static_check(model("return x"), dsl="plain", library_ops="some")
    with pytest.raises(ValueError, match="dsl"):
        static_check(model("return x"), dsl="nonsense")
    assert static_check(model("return x"), dsl="plain") == []
