"""Export of a C++ kernel for ``torch.utils.cpp_extension.load_inline``."""

from __future__ import annotations

import re

from mlpapers.kernels.dsl.cpp.loader import LOADER

_SIGNATURE = re.compile(r'extern "C" void (kernel_\d+|settle)\(([^)]*)\)')

_PRELUDE = """\
import numbers
import platform

import torch
from torch.utils.cpp_extension import load_inline

"""

_CALL = '''

_module = None


def _call(source, flags, name, *arguments):
    """Build the extension at the first call, then pass tensors and sizes on."""
    global _module
    if _module is None:
        _module = load_inline(
            name="mlpapers_kernel", cpp_sources=[_CPP + _PAGES + _WRAPPERS], functions=list(_FUNCTIONS),
            extra_cflags=list(_FLAGS), extra_ldflags=["-lgomp"],
        )
    getattr(_module, name + "_torch")(*arguments)
'''


def inline_source(code: str) -> str:
    """Return the source with ``load_inline`` in place of the loader.

    Parameters
    ----------
    code : str
        A rendered C++ kernel.

    Returns
    -------
    text : str
    """
    if LOADER not in code:
        raise ValueError("code does not contain the cpp loader, so it cannot be exported with load_inline")
    helpers = LOADER[LOADER.index("_DTYPES = {") : LOADER.index("_CXX = ")]
    tail = LOADER[LOADER.index("def _look_up(") : LOADER.index("# -- end")]
    wrappers, names = [], []
    for name, parameters in _SIGNATURE.findall(code):
        outer, inner = [], []
        for parameter in (part.strip() for part in parameters.split(",")):
            words = parameter.split()
            variable = words[-1]
            if "*" in parameter:
                kind = parameter.replace("__restrict", "").rsplit(variable, 1)[0].strip()
                outer.append(f"at::Tensor {variable}")
                inner.append(f"({kind}){variable}.data_ptr()")
            elif variable == "threads":
                inner.append("at::get_num_threads()")
            else:
                outer.append(f"int64_t {variable}")
                inner.append(variable)
        names.append(f"{name}_torch")
        wrappers.append(f"void {name}_torch({', '.join(outer)}) {{ {name}({', '.join(inner)}); }}")
    table = f'\n_WRAPPERS = r"""\n{chr(10).join(wrappers)}\n"""\n_FUNCTIONS = {tuple(names)!r}\n'
    pages = LOADER[LOADER.index("_HUGE_FROM = ") : LOADER.index("def _tag(")]
    helpers = helpers + pages + tail
    # torch's own headers declare what the header-free text declares by hand.
    freed = code.replace('extern "C" void* aligned_alloc(unsigned long, unsigned long);\n', "").replace(
        'extern "C" void free(void*);\n', ""
    )
    return freed.replace(LOADER, _PRELUDE + helpers + table + _CALL)
