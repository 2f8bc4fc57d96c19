"""The text that a rendered kernel carries to compile and load its C++ part."""

LOADER = '''\
# -- loader: compiles _CPP once per machine and loads it
import ctypes
import hashlib
import os
import platform
import subprocess
import tempfile

import torch

_DTYPES = {
    "f64": torch.float64, "f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "i64":
    torch.int64,
    "i32": torch.int32, "i16": torch.int16, "i8": torch.int8, "u8": torch.uint8, "b1": torch.bool,
}
_CXX = os.environ.get("CXX", "g++")
_HUGE_FROM = 4 << 20


def _tag():
    """What a binary depends on beside its source: compiler and processor."""
    known = os.environ.get("MLPAPERS_KERNEL_TAG")
    if known:
        return known
    version = subprocess.run([_CXX, "--version"], capture_output=True, text=True, check=True).stdout
    try:
        with open("/proc/cpuinfo") as file:
            flags = next((line for line in file if line.startswith(("flags", "Features"))), "")
    except OSError:
        flags = platform.processor()
    return hashlib.sha256((version + flags).encode()).hexdigest()


def _binary(source, flags, folder=None):
    """Return the path of the compiled source; it is compiled where it is not in the cache."""
    folder = folder or os.environ.get("MLPAPERS_KERNEL_CACHE") or os.path.join(
        os.path.expanduser("~"), ".cache", "mlpapers", "kernels"
    )
    key = hashlib.sha256("\\0".join([source, *flags, _tag()]).encode()).hexdigest()
    path = os.path.join(folder, key + ".so")
    if not os.path.exists(path):
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            text, out = os.path.join(scratch, "kernel.cpp"), os.path.join(scratch, "kernel.so")
            with open(text, "w") as file:
                file.write(source)
            command = [_CXX, *flags, "-shared", "-fPIC", text, "-o", out]
            libc, version = platform.libc_ver()
            recent = libc == "glibc" and tuple(map(int, version.split("."))) >= (2, 35)
            if recent and platform.machine() == "x86_64":
                command[1:1] = ["-DUSE_MVEC"]
                command += ["-lmvec"]
            run = subprocess.run([*command, "-lm"], capture_output=True, text=True, timeout=300)
            if run.returncode:
                raise RuntimeError("the kernel does not compile:\\n" + run.stderr)
            os.replace(out, path)
    return path


_libraries = {}


def _call(source, flags, name, *arguments):
    """Call a function of the compiled source: tensors as pointers, sizes as 64-bit integers."""
    function = _libraries.get((source, name))
    if function is None:
        library = _libraries.get(source)
        if library is None:
            library = _libraries[source] = ctypes.CDLL(_binary(source, flags))
        function = _libraries[source, name] = getattr(library, name)
        function.restype = None
        function.argtypes = [
            ctypes.c_void_p if isinstance(value, torch.Tensor) else ctypes.c_long for value in arguments
        ] + [ctypes.c_int]
    function(
        *[value if type(value) is int else value.data_ptr() for value in arguments],
        torch.get_num_threads(),
    )


def _dense(value, dtype, shape=None, name="a parameter"):
    """Return an argument as a contiguous tensor of the sizes that the kernel reads."""
    if not isinstance(value, torch.Tensor):
        return torch.tensor(value, dtype=_DTYPES[dtype])
    if value.dtype != _DTYPES[dtype]:
        raise TypeError(f"{name} must have dtype {_DTYPES[dtype]}; got {value.dtype}")
    if shape is not None and value.shape != shape:
        raise ValueError(f"the kernel was made for {name} of shape {shape}; got {tuple(value.shape)}")
    return value if value.is_contiguous() else value.contiguous()


_madvise = getattr(ctypes.CDLL(None), "madvise", None)


def _fresh(shape, dtype, huge=True):
    """Return a new tensor; a large one asks the system for huge pages, which are faster to touch first."""
    # Sizes one by one are parsed faster than a tuple of them, where there are any.
    tensor = torch.empty(*shape or ((),), dtype=_DTYPES[dtype])
    size = tensor.nbytes if huge else 0
    if size >= _HUGE_FROM and _madvise is not None:
        start = (tensor.data_ptr() + 4095) & ~4095
        _madvise(ctypes.c_void_p(start), ctypes.c_size_t((size - 4096) & ~4095), 14)
    return tensor


def _state(module, key):
    """Return a parameter, buffer or tensor attribute by its dotted name."""
    for name in key.split("."):
        module = getattr(module, name)
    return module


# -- end of the loader
'''
