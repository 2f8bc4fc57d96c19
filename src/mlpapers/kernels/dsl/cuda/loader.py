"""The text that a rendered CUDA kernel carries to compile, load and launch its device code."""

from mlpapers.kernels.dsl.host import CHECKS

LOADER = (
    """\
# -- loader: compiles _CUDA once per machine (by NVRTC or nvcc) and launches it through the driver
import ctypes
import functools
import glob
import hashlib
import os
import shutil
import subprocess
import tempfile

import torch

"""
    + CHECKS
    + '''

def _nvrtc():
    """Return NVRTC's library: on the loader's path, torch's, or a toolkit's; None where there is none."""
    first = (torch.version.cuda or "13").split(".")[0]
    versions = [first, *(known for known in ("13", "12") if known != first)]
    packages = os.path.dirname(os.path.dirname(torch.__file__))
    folders = [
        *glob.glob(os.path.join(packages, "nvidia", "*", "lib")),
        os.path.join(os.environ.get("CUDA_HOME", "/usr/local/cuda"), "lib64"),
    ]
    for name in [f"libnvrtc.so.{version}" for version in versions]:
        for path in (name, *(os.path.join(folder, name) for folder in folders)):
            try:
                # The library looks for this one when it compiles, and not in its own folder.
                if path != name:
                    for part in glob.glob(os.path.join(os.path.dirname(path), "libnvrtc-builtins.so.*")):
                        ctypes.CDLL(part, ctypes.RTLD_GLOBAL)
                return ctypes.CDLL(path)
            except OSError:
                continue
    return None


def _by_nvrtc(library, source, flags, arch):
    """Return the machine code of a source, compiled in this process."""
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    program, size = ctypes.c_void_p(), ctypes.c_size_t()

    def checked(status, log=""):
        if status:
            reason = library.nvrtcGetErrorString(status).decode(errors="replace")
            raise RuntimeError(f"the kernel does not compile ({reason})" + (f":\\n{log}" if log else ""))

    checked(library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None))
    try:
        options = [f"--gpu-architecture={arch}", *flags]
        found = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
        status = library.nvrtcCompileProgram(program, len(options), found)
        log = b""
        if status and not library.nvrtcGetProgramLogSize(program, ctypes.byref(size)) and size.value:
            text = ctypes.create_string_buffer(size.value)
            log = b"" if library.nvrtcGetProgramLog(program, text) else text.value
        checked(status, log.decode(errors="replace").strip())
        checked(library.nvrtcGetCUBINSize(program, ctypes.byref(size)))
        if not size.value:
            # A virtual architecture gives no machine code.
            raise RuntimeError(f"the architecture must be that of a device, such as sm_90; got {arch}")
        binary = ctypes.create_string_buffer(size.value)
        checked(library.nvrtcGetCUBIN(program, binary))
        return binary.raw
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _by_nvcc(source, flags, arch):
    """Return the machine code of a source, compiled by the toolkit's compiler."""
    with tempfile.TemporaryDirectory() as scratch:
        text, out = os.path.join(scratch, "kernel.cu"), os.path.join(scratch, "kernel.cubin")
        with open(text, "w") as file:
            file.write(source)
        command = [os.environ.get("NVCC", "nvcc"), "-cubin", f"-arch={arch}", *flags, text, "-o", out]
        run = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if run.returncode:
            raise RuntimeError("the kernel does not compile:\\n" + run.stderr)
        with open(out, "rb") as file:
            return file.read()


def _arch():
    """Return the architecture to compile for: that of the GPU."""
    known = os.environ.get("MLPAPERS_KERNEL_CUDA_ARCH")
    if known:
        return known
    major, minor = torch.cuda.get_device_capability()
    return f"sm_{major}{minor}"


def _binary(source, flags, arch=None, folder=None):
    """Return the path of the compiled source; it is compiled where it is not in the cache."""
    arch = arch or _arch()
    folder = folder or os.environ.get("MLPAPERS_KERNEL_CACHE") or os.path.join(
        os.path.expanduser("~"), ".cache", "mlpapers", "kernels"
    )
    key = hashlib.sha256("\\0".join([source, *flags, arch]).encode()).hexdigest()
    path = os.path.join(folder, key + ".cubin")
    if not os.path.exists(path):
        os.makedirs(folder, exist_ok=True)
        if shutil.which(os.environ.get("NVCC", "nvcc")):
            code = _by_nvcc(source, flags, arch)
        else:
            library = _nvrtc()
            if library is None:
                raise RuntimeError("neither nvcc nor libnvrtc was found")
            code = _by_nvrtc(library, source, flags, arch)
        part = f"{path}.{os.getpid()}"
        with open(part, "wb") as file:
            file.write(code)
        os.replace(part, path)
    return path


_functions = {}
_libraries = {}


def _libcuda():
    """Return the driver's library."""
    if "cuda" not in _libraries:
        _libraries["cuda"] = ctypes.CDLL("libcuda.so.1")
    return _libraries["cuda"]


def _driver(status):
    """Raise what a call of the driver reports."""
    if status:
        text = ctypes.c_char_p()
        _libcuda().cuGetErrorString(status, ctypes.byref(text))
        said = (text.value or b"unknown").decode(errors="replace")
        raise RuntimeError(f"the CUDA driver reports error {status}: {said}")


def _function(source, flags, name, device):
    """Return a kernel, loaded into the device's context."""
    found = _functions.get((source, name, device))
    if found is None:
        torch.cuda.current_stream(device)
        with open(_binary(source, flags), "rb") as file:
            code = file.read()
        module, found = ctypes.c_void_p(), ctypes.c_void_p()
        _driver(_libcuda().cuModuleLoadData(ctypes.byref(module), code))
        _driver(_libcuda().cuModuleGetFunction(ctypes.byref(found), module, name.encode()))
        _functions[source, name, device] = found
    return found


def _run(source, flags, name, programs, threads, *arguments):
    """Launch a kernel: tensors as pointers, sizes as 64-bit integers, on the current stream."""
    if programs <= 0:
        return
    device, values = None, []
    for x in arguments:
        if isinstance(x, torch.Tensor):
            values.append(x.data_ptr())
            device = x.device if device is None else device
        else:
            values.append(x)
    if device.type != "cuda":
        raise ValueError(f"the kernel runs on a CUDA device; its arguments are on {device}")
    if device.index != torch.cuda.current_device():
        with torch.cuda.device(device):
            return _run(source, flags, name, programs, threads, *arguments)
    function = _functions.get((source, name, device.index)) or _function(source, flags, name, device.index)
    # Addresses and sizes are 64 bits wide alike.
    slots = (ctypes.c_longlong * len(values))(*values)
    first = ctypes.addressof(slots)
    places = (ctypes.c_void_p * len(values))(*range(first, first + 8 * len(values), 8))
    stream = ctypes.c_void_p(torch.cuda.current_stream(device).cuda_stream)
    _driver(_libcuda().cuLaunchKernel(function, programs, 1, 1, threads, 1, 1, 0, stream, places, None))


# -- end of the loader
'''
)
