"""Kernels: loading, files, export."""

import pytest

from mlpapers.kernels.kernel import Kernel
from mlpapers.kernels.task import TaskError

CODE = "import torch\nclass ModelNew(torch.nn.Module):\n    def forward(self, x):\n        return x\n"


def test_load_save_and_read(tmp_path):
    kernel = Kernel(CODE, "cpp", "cpu", None)
    assert kernel.load().__name__ == "ModelNew"
    path = kernel.save(tmp_path / "kernel.py")
    assert Kernel.from_file(path, "cpp", None).code == CODE
    assert kernel.export() == CODE


def test_code_without_the_class_is_refused():
    with pytest.raises(TaskError, match="ModelNew"):
        Kernel("x = 1", "cpp", "cpu", None)
    with pytest.raises(TaskError, match="no Python"):
        Kernel("class (", "cpp", "cpu", None)


def test_unknown_style_and_foreign_code():
    with pytest.raises(ValueError, match="style"):
        Kernel(CODE, "cpp", "cpu", None).export("zip")
    with pytest.raises(ValueError, match="loader"):
        Kernel(CODE, "cpp", "cpu", None).export("load_inline")
    with pytest.raises(ValueError, match="cpp kernels"):
        Kernel(CODE, "triton", "cuda", None).export("load_inline")
