"""A worker in which compilers may run: what languages for devices need at the first launch, and no more."""

import importlib.util
import shutil

import pytest
from kernel_support import RELU, model

from mlpapers.kernels.verify import examiner as examiner_module
from mlpapers.kernels.verify._lockdown import compilers
from mlpapers.kernels.verify.examiner import Examiner
from mlpapers.kernels.verify.settings import Settings

HONEST = "return x.clamp(min=0)"


@pytest.fixture(scope="module")
def locked():
    """An examiner whose workers are locked as those on a GPU are."""
    shared = Examiner._job

    def job(self, code, folder, procedure):
        more = {"compilers": True, "writable": [str(self._prepared.compiled)]}
        return shared(self, code, folder, procedure) | more

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examiner_module, "static_check", lambda *_, **__: [])
        patch.setattr(Examiner, "_job", job)
        plain = Examiner._environment.fget
        patch.setattr(
            Examiner,
            "_environment",
            property(lambda self: plain(self) | {"TRITON_CACHE_DIR": str(self._prepared.compiled)}),
        )
        settings = Settings(n_correct=1, library_ops="any", shape_policy="static", timeout=120)
        with Examiner(RELU, dsl="plain", settings=settings, random_state=0) as examiner:
            yield examiner


TRITON = '''
import triton
import triton.language as tl


@triton.jit
def exponential(p, q, n):
    i = tl.program_id(0) * 64 + tl.arange(0, 64)
    tl.store(q + i, tl.exp(tl.load(p + i, mask=i < n)), mask=i < n)


STUB = """
#include <Python.h>
static PyMethodDef methods[] = {{NULL, NULL, 0, NULL}};
static struct PyModuleDef self = {PyModuleDef_HEAD_INIT, "stub", NULL, -1, methods};
PyMODINIT_FUNC PyInit_stub(void) { return PyModule_Create(&self); }
"""
'''
COMPILES = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.build import compile_module_from_src
text = ASTSource(exponential, {"p": "*fp32", "q": "*fp32", "n": "i32"}, {})
assert triton.compile(text, target=GPUTarget("cuda", 90, 32)).asm["cubin"]
assert compile_module_from_src(STUB, "stub").__name__ == "stub"
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_triton_compiles_at_the_first_launch(locked):
    """Assembler and C compiler are started, and files written where they belong, all in the locked worker."""
    report = locked.examine(model(COMPILES + HONEST, before=TRITON), timing=False).report
    assert report.ok, report.error
    assert any("compilers may be started" in text for text in report.disclosures)


def test_late_imports_and_the_null_device_are_no_hacks(locked):
    body = (
        "import colorsys, os, subprocess, xml.dom.minidom\n"
        "os.write(os.open(os.devnull, os.O_RDWR), b'nothing')\n"
        "assert sys.dont_write_bytecode\n"
    )
    report = locked.examine(model(body + HONEST, before="import sys"), timing=False).report
    assert report.ok, report.error


@pytest.mark.parametrize(
    "body",
    [
        "subprocess.run(['/bin/true'])",
        "subprocess.run('true', shell=True)",
        "subprocess.Popen(['true'], executable='/bin/true')",
        "os.system('true')",
        "os.posix_spawn('/bin/true', ['true'], {})",
        "os.execv('/bin/true', ['true'])",
        "os.fork()",
        "os.remove(torch.__file__)",
        "os.mkdir('/tmp/made-by-a-kernel')",
        "os.symlink('x', torch.__file__)",
        "open(torch.__file__, 'a')",
        "socket.socket()",
    ],
)
def test_anything_else_is_refused(body, locked):
    hidden = f"try:\n    {body}\nexcept PermissionError:\n    pass\nelse:\n    raise AssertionError\n{HONEST}"
    report = locked.examine(model(hidden, before="import os, socket, subprocess"), timing=False).report
    assert report.hacks == ("forbidden_access",), report.error


def test_a_compiler_of_the_same_name_elsewhere_is_refused(locked):
    body = (
        "with open('gcc', 'w') as file:\n    file.write('#!/bin/sh\\n')\n"
        "os.fchmod(os.open('gcc', os.O_RDONLY), 0o755)\n"
        "try:\n    subprocess.run(['gcc'], env={'PATH': os.getcwd()})\nexcept OSError:\n    pass\n"
    )
    report = locked.examine(model(body + HONEST, before="import os, subprocess"), timing=False).report
    assert report.hacks == ("forbidden_access",), report.error


def test_what_may_be_started():
    names = compilers()
    assert all(name.startswith("/") for name in names)
    assert not any(name.endswith(("/sh", "/bash", "/python3", "/curl")) for name in names)
