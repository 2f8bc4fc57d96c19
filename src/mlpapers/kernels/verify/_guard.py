"""The harness's own eyes: functions bound before a candidate is imported, and a record of what it calls."""

from __future__ import annotations

import gc
import importlib
import io
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from mlpapers.kernels.verify.policy import (
    NAME_CONTRACTIONS,
    RANDOM_DRAWS,
    aten_allowed,
    is_contraction,
    is_view,
)

_equal, _no_grad, _Tensor = torch.equal, torch.no_grad, torch.Tensor
_clone = torch.Tensor.clone
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

# What a candidate might replace in order to be timed or compared kindly, or to slow the reference down.
_WATCHED: dict[str, tuple[str, ...]] = {
    "time": ("perf_counter perf_counter_ns time time_ns monotonic monotonic_ns process_time sleep",),
    "torch": (
        "allclose equal isclose empty empty_like manual_seed get_rng_state no_grad matmul mm addmm bmm",
        "sum mean max exp relu sigmoid softmax load save as_tensor get_num_threads set_num_threads",
    ),
    "torch.cuda": ("Event synchronize current_stream",),
    "torch.cuda.Event": ("record elapsed_time synchronize",),
    "torch.testing": ("assert_close",),
    "torch.nn.functional": (
        "linear relu gelu softmax log_softmax conv1d conv2d conv3d conv_transpose2d layer_norm group_norm",
        "batch_norm max_pool2d avg_pool2d mse_loss cross_entropy scaled_dot_product_attention",
    ),
    "torch.nn.Module": ("__call__ _call_impl forward load_state_dict state_dict train eval",),
    "torch.Tensor": ("clone copy_ __eq__ __add__ __mul__ __matmul__ to contiguous",),
    "json": ("dumps loads",),
    "os": ("write listdir",),
    "gc": ("disable collect",),
}


# The library's contractions themselves, bound before a candidate can put something else under their names.
_CONTRACTIONS = {
    function
    for owner in (torch, torch.nn.functional, torch.ops.aten)
    for name in NAME_CONTRACTIONS
    if (found := getattr(owner, name, None)) is not None
    for function in (found, getattr(found, "default", found))
}


def preload() -> None:
    """Let torch load what its first calls load, without starting a pool of threads that a fork would lose.

    The first recorded call imports torch's compiler, which takes a second and replaces functions.
    """
    with torch.no_grad(), Recorder("any"):
        torch.nn.Linear(1, 1)(torch.zeros(1, 1))
    # Files are read and written through modules of their own; nobody unpacks them with other programs.
    torch.serialization.set_crc32_options(False)
    kept = io.BytesIO()
    torch.save(torch.zeros(1), kept)
    kept.seek(0)
    torch.load(kept, weights_only=False)


class Guard:
    """A snapshot of functions and global settings, and what differs from it later."""

    def __init__(self) -> None:
        self._functions = {
            f"{owner}.{name}": (_find(owner), name, getattr(_find(owner), name, None))
            for owner, names in _WATCHED.items()
            for name in " ".join(names).split()
        }
        self._settings = _settings()

    def settle(self) -> None:
        """Take the settings as they are after the candidate's import for granted; changes so far are kept."""
        self._early = self.changes()

    def changes(self) -> list[str]:
        """Return the names of functions and settings that are not what they were."""
        found = [
            name for name, (owner, attribute, value) in self._functions.items()
            if getattr(owner, attribute, None) is not value
        ]  # fmt: skip
        now = _settings()
        found += [name for name, value in self._settings.items() if now[name] != value]
        return sorted({*found, *getattr(self, "_early", [])})


def _find(owner: str) -> Any:
    try:
        return importlib.import_module(owner)
    except ModuleNotFoundError:
        package, _, name = owner.rpartition(".")
        return getattr(importlib.import_module(package), name)


def _settings() -> dict[str, Any]:
    module = torch.nn.modules.module
    hooks = ("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks")
    # A denormal number survives unless somebody made the processor flush it to zero.
    tiny = torch.tensor([1e-40])
    return {
        "num_threads": torch.get_num_threads(),
        "default_dtype": str(torch.get_default_dtype()),
        "grad_enabled": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "flushes_denormals": bool((tiny * 0.5 == 0).item()),
        "mkldnn": torch.backends.mkldnn.enabled,
        "cudnn_tf32": torch.backends.cudnn.allow_tf32,
        "hooks": [len(getattr(module, name, ())) for name in hooks],
        "gc": gc.isenabled(),
    }


class _Calls(TorchFunctionMode):
    """Notes whether a contraction of the library is at work, which may be made of other operators."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        contraction = func in _CONTRACTIONS
        self.inside += contraction
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.inside -= contraction


class Recorder(TorchDispatchMode):
    """Records the aten operators of a call that are neither views nor allocation nor allowed.

    Attributes
    ----------
    refused : dict of str to int
        Operator and how often.
    library : dict of str to int
        Contractions of the library.
    """

    def __init__(self, library_ops: str, random: bool = False) -> None:
        super().__init__()
        self._library_ops, self._random = library_ops, random
        self.refused: dict[str, int] = {}
        self.library: dict[str, int] = {}
        self._calls = _Calls()

    def __enter__(self) -> Any:
        self._calls.__enter__()
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._calls.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        result = func(*args, **kwargs)
        if is_contraction(name):
            self.library[name] = self.library.get(name, 0) + 1
        allowed = (
            aten_allowed(name, self._library_ops)
            or is_view(func._schema)
            or (self._library_ops == "contractions" and self._calls.inside)
            or (self._random and name in RANDOM_DRAWS)
            # Bookkeeping such as counting batches.
            or all(x.numel() <= 1 for x in _tensors((args, list(kwargs.values()), result)))
        )
        if not allowed:
            self.refused[name] = self.refused.get(name, 0) + 1
        elif self._library_ops == "any" and not (aten_allowed(name, "none") or is_view(func._schema)):
            self.library[name] = self.library.get(name, 0) + 1
        return result


def _tensors(value: Any) -> list[Any]:
    if isinstance(value, _Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [x for item in value for x in _tensors(item)]
    return []


def leaves(output: Any) -> list[Any] | None:
    """Return the flat outputs, or None where there is something else among them."""
    if isinstance(output, _Tensor | int | float):
        return [output]
    if isinstance(output, dict):
        output = list(output.values())
    if not isinstance(output, list | tuple):
        return None
    parts = [leaves(item) for item in output]
    return None if any(part is None for part in parts) else [x for part in parts for x in part or []]


def clone(value: Any) -> Any:
    """Return a copy that later writes do not reach."""
    return _clone(value.detach()) if isinstance(value, _Tensor) else value


def generators(device: str) -> list[Any]:
    """Return the states of torch's generators that a call on a device may draw from."""
    states = [torch.get_rng_state()]
    return states if device == "cpu" else [*states, torch.cuda.get_rng_state(device)]


def fill_device(device: str, like: list[Any]) -> None:
    """Leave blocks of the sizes of some tensors in a device's allocator, filled with 0x7f bytes.

    The next allocations of these sizes get them: what a kernel does not write is seen.
    """
    if device != "cpu":
        sizes = [x.numel() * x.element_size() for x in like if isinstance(x, _Tensor)]
        blocks = [torch.full((size,), 0x7F, dtype=torch.uint8, device=device) for size in sizes]
        del blocks


def same(a: Any, b: Any) -> bool:
    """Return whether two values agree to the last bit."""
    if not isinstance(a, _Tensor) or not isinstance(b, _Tensor):
        return type(a) is type(b) and bool(a == b)
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.is_floating_point():
        kind = _BITS[a.element_size()]
        a, b = a.detach().contiguous().view(kind), b.detach().contiguous().view(kind)
    return bool(_equal(a, b))


def same_all(first: list[Any], second: list[Any]) -> bool:
    """Return whether two lists agree to the last bit."""
    return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second))
