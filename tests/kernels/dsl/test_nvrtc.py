"""The path by NVRTC: its calls in order, options, errors, and the libraries that it is looked for in."""

import ctypes
import re
import shutil
from pathlib import Path

import pytest
import torch

from mlpapers.kernels.claims._suite import make_task
from mlpapers.kernels.dsl import get_dsl
from mlpapers.kernels.dsl.base import embedded_source
from mlpapers.kernels.dsl.cuda.loader import LOADER
from mlpapers.kernels.synthesis.synthesise import candidate, synthesise

SOURCE = 'extern "C" __global__ void twice(float* x) { x[threadIdx.x] *= 2; }'
HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"


@pytest.fixture
def loader():
    namespace = {"__name__": "loader"}
    exec(compile(LOADER, "<loader>", "exec"), namespace)
    return namespace


class FakeNVRTC:
    """Answers as the library does; fails where it is told to."""

    def __init__(self, fails="", log="kernel.cu(1): error", binary=b"\x7fELF code"):
        self.fails, self.log, self.binary = fails, log.encode(), binary
        self.calls, self.options = [], []
        self.nvrtcGetErrorString = _Function(lambda status: b"NVRTC_ERROR_%d" % status)

    def _done(self, name):
        self.calls.append(name)
        return 6 if name == self.fails else 0

    def nvrtcCreateProgram(self, program, source, name, n_headers, headers, names):
        assert (n_headers, headers, names) == (0, None, None)
        assert source.decode() == SOURCE
        program._obj.value = 77
        return self._done("create")

    def nvrtcCompileProgram(self, program, n, options):
        assert program.value == 77
        self.options = [options[k].decode() for k in range(n)]
        return self._done("compile")

    def nvrtcGetProgramLogSize(self, program, size):
        size._obj.value = len(self.log) + 1 if self.log else 0
        return self._done("log size")

    def nvrtcGetProgramLog(self, program, text):
        text.value = self.log
        return self._done("log")

    def nvrtcGetCUBINSize(self, program, size):
        size._obj.value = len(self.binary)
        return self._done("size")

    def nvrtcGetCUBIN(self, program, binary):
        binary.raw = self.binary
        return self._done("binary")

    def nvrtcDestroyProgram(self, program):
        assert program._obj.value == 77
        program._obj.value = None
        return self._done("destroy")


class _Function:
    """A foreign function: callable, and its result has a type."""

    def __init__(self, call):
        self._call = call
        self.restype = ctypes.c_int

    def __call__(self, status):
        assert self.restype is ctypes.c_char_p
        return self._call(status)


def test_a_source_goes_through_in_order_with_its_options(loader):
    library = FakeNVRTC()
    assert loader["_by_nvrtc"](library, SOURCE, ("--std=c++17",), "sm_90") == b"\x7fELF code"
    assert library.options == ["--gpu-architecture=sm_90", "--std=c++17"]
    assert library.calls == ["create", "compile", "size", "binary", "destroy"]


def test_a_source_that_does_not_compile_shows_the_compilers_text_and_leaves_nothing(loader):
    library = FakeNVRTC(fails="compile")
    with pytest.raises(RuntimeError, match=r"NVRTC_ERROR_6.*\n.*kernel.cu\(1\): error"):
        loader["_by_nvrtc"](library, SOURCE, (), "sm_90")
    assert library.calls[-1] == "destroy"


@pytest.mark.parametrize("fails", ["create", "size", "binary"])
def test_every_call_that_fails_is_reported(loader, fails):
    library = FakeNVRTC(fails=fails)
    with pytest.raises(RuntimeError, match="NVRTC_ERROR_6"):
        loader["_by_nvrtc"](library, SOURCE, (), "sm_90")
    assert ("destroy" in library.calls) == (fails != "create")


def test_a_failure_without_a_log_has_its_name(loader):
    with pytest.raises(RuntimeError, match=r"does not compile \(NVRTC_ERROR_6\)$"):
        loader["_by_nvrtc"](FakeNVRTC(fails="compile", log=""), SOURCE, (), "sm_90")


def test_a_virtual_architecture_is_refused(loader):
    with pytest.raises(RuntimeError, match="such as sm_90; got compute_90"):
        loader["_by_nvrtc"](FakeNVRTC(binary=b""), SOURCE, (), "compute_90")


def test_it_is_found_beside_torch_and_its_other_half_is_loaded_first(loader, tmp_path, monkeypatch):
    folder = tmp_path / "nvidia" / "cu13" / "lib"
    folder.mkdir(parents=True)
    for name in ("libnvrtc.so.12", "libnvrtc-builtins.so.13.1"):
        (folder / name).touch()
    tried = []

    def load(path, mode=0):
        tried.append((str(path).rsplit("/", 1)[-1], "/" in str(path)))
        if tried[-1] not in (("libnvrtc.so.12", True), ("libnvrtc-builtins.so.13.1", True)):
            raise OSError(path)
        return path

    monkeypatch.setattr(torch, "__file__", str(tmp_path / "torch" / "__init__.py"))
    monkeypatch.setattr(ctypes, "CDLL", load)
    assert loader["_nvrtc"]() == str(folder / "libnvrtc.so.12")
    assert tried[-2:] == [("libnvrtc-builtins.so.13.1", True), ("libnvrtc.so.12", True)]
    assert ("libnvrtc.so.13", False) in tried
    (folder / "libnvrtc.so.12").rename(folder / "libnvrtc.so.11")
    monkeypatch.setattr(ctypes, "CDLL", lambda *_: load("nowhere"))
    assert loader["_nvrtc"]() is None


def test_without_a_toolkit_the_source_is_compiled_by_nvrtc(loader, tmp_path, monkeypatch):
    monkeypatch.setenv("NVCC", str(tmp_path / "no_such_compiler"))
    library = FakeNVRTC()
    loader["_nvrtc"] = lambda: library
    path = loader["_binary"](SOURCE, (), "sm_90", str(tmp_path))
    assert Path(path).read_bytes() == b"\x7fELF code"
    assert loader["_binary"](SOURCE, (), "sm_90", str(tmp_path)) == path
    assert library.calls.count("compile") == 1
    loader["_nvrtc"] = lambda: None
    with pytest.raises(RuntimeError, match="neither nvcc nor libnvrtc"):
        loader["_binary"](SOURCE + " ", (), "sm_90", str(tmp_path))


class FakeDriver:
    """libcuda: counts what is loaded, notes launches."""

    def __init__(self, status=0):
        self.status, self.loaded, self.launches = status, [], []

    def cuModuleLoadData(self, module, code):
        self.loaded.append(code)
        return self.status

    def cuModuleGetFunction(self, function, module, name):
        function._obj.value = 5
        self.loaded.append(name)
        return 0

    def cuGetErrorString(self, status, text):
        text._obj.value = b"no kernel image is available"
        return 0


def test_the_drivers_errors_are_named(loader, tmp_path, monkeypatch):
    binary = tmp_path / "x.cubin"
    binary.write_bytes(b"\x7fELF")
    loader["_binary"] = lambda *_: str(binary)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: None)
    loader["_libraries"]["cuda"] = driver = FakeDriver()
    found = [loader["_function"](SOURCE, (), "twice", 0) for _ in range(2)]
    assert found[0] is found[1]
    assert driver.loaded == [b"\x7fELF", b"twice"]
    loader["_libraries"]["cuda"] = FakeDriver(status=209)
    with pytest.raises(RuntimeError, match="error 209: no kernel image"):
        loader["_function"](SOURCE, (), "twice", 1)


def test_names_that_are_launched_are_names_of_the_text():
    """The driver finds functions by the names of the binary: no C++ name may stand for them."""
    forwards = ("return torch.softmax(x, -1)", "return F.max_pool2d(x[:, None, None], 1)", "return x.sum()")
    for forward in forwards:
        code = candidate(
            synthesise(make_task("t", "", forward, ("torch.randn(9, 130)",), HEAD))[0], "cuda", "cuda"
        ).code
        text, _ = embedded_source(code, "_CUDA", "CUDA")
        launched = re.findall(r"_run\(_CUDA, _FLAGS, '(\w+)'", code)
        assert launched
        for name in launched:
            assert re.search(rf'extern "C" __global__ void [^\n]*\b{name}\(', text)


def _library():
    namespace = {"__name__": "loader"}
    exec(compile(LOADER, "<loader>", "exec"), namespace)
    return namespace["_nvrtc"]()


@pytest.mark.skipif(_library() is None, reason="no libnvrtc")
def test_the_library_itself_compiles_what_is_rendered(loader):
    code = candidate(
        synthesise(make_task("t", "", "return torch.softmax(x, -1).half()", ("torch.randn(9, 130)",), HEAD))[
            0
        ],
        "cuda",
        "cuda",
    ).code
    text, flags = embedded_source(code, get_dsl("cuda").source_variable, "CUDA")
    assert loader["_by_nvrtc"](_library(), text, flags, "sm_90")[:4] == b"\x7fELF"
    with pytest.raises(RuntimeError, match='identifier "nothing" is undefined'):
        loader["_by_nvrtc"](_library(), text.replace("threadIdx.x", "nothing"), flags, "sm_90")
    with pytest.raises(RuntimeError, match="nonsense"):
        loader["_by_nvrtc"](_library(), text, ("--nonsense",), "sm_90")


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc")
def test_binaries_hold_the_functions_by_their_names(loader, tmp_path):
    path = loader["_binary"](SOURCE, (), "sm_90", str(tmp_path))
    assert b".text.twice\0" in Path(path).read_bytes()
