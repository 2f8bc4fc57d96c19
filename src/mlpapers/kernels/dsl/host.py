"""The Python around kernels: ``class ModelNew`` whose ``forward`` makes tensors, calls and launches."""

from __future__ import annotations

import abc
import json
import re
from collections.abc import Sequence
from typing import Any

from mlpapers.kernels.dsl.launches import Launch, launches
from mlpapers.kernels.sketch import Call, Load, Sketch, walk

_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
GIVEN = ("input", "state", "const")
# torch's own bindings of some operators take their arguments faster than those of torch.ops.
_CALLEES = {
    "aten.addmm.default": "torch.addmm",
    "aten.bmm.default": "torch.bmm",
    "aten.convolution.default": "torch.convolution",
    "aten.linear.default": "torch.nn.functional.linear",
    "aten.matmul.default": "torch.matmul",
    "aten.mm.default": "torch.mm",
    "aten.mv.default": "torch.mv",
    "aten.scaled_dot_product_attention.default": "torch.nn.functional.scaled_dot_product_attention",
}

# What every loader has: arguments are refused by their name.
ARGUMENTS = '''\
def _shape(value, rank, name):
    """Return the shape of an argument that must be a tensor of so many dimensions."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a tensor; got {type(value).__name__}")
    if value.dim() != rank:
        raise ValueError(f"{name} must have {rank} dimensions; got the shape {tuple(value.shape)}")
    return value.shape


def _number(value, dtype, shape, name):
    """Return an argument that is no tensor as it is, where it is a number that the kernel takes."""
    if shape or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a {'tensor' if shape else 'number'}; got {type(value).__name__}")
    if not dtype.is_floating_point and not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be a whole number, as at capture; got {value}")
    return value


'''

# What loaders of device languages have in common: arguments are checked, never read out of bounds.
CHECKS = (
    """\
import numbers

_DTYPES = {
    "f64": torch.float64, "f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16,
    "i64": torch.int64, "i32": torch.int32, "i16": torch.int16, "i8": torch.int8, "u8": torch.uint8,
    "b1": torch.bool,
}


"""
    + ARGUMENTS
    + '''\
def _dense(value, dtype, device, shape, name):
    """Return an argument as a contiguous tensor of the type and shape that the kernel was written for."""
    if not isinstance(value, torch.Tensor):
        # Filled on the device: a copy from the host would wait for it.
        number = _number(value, _DTYPES[dtype], shape, name)
        return torch.full((), number, dtype=_DTYPES[dtype], device=device)
    if value.dtype != _DTYPES[dtype]:
        raise TypeError(f"{name} must be {dtype}; got {value.dtype}")
    if value.shape != shape:
        raise ValueError(f"{name} must have the shape {shape}; got {tuple(value.shape)}")
    if value.device != device:
        raise ValueError(f"{name} must be on {device}; got {value.device}")
    return value if value.is_contiguous() else value.contiguous()


def _device(*values):
    """Return the device of the first tensor."""
    return next((value.device for value in values if isinstance(value, torch.Tensor)), torch.device("cpu"))


def _state(module, key):
    """Return a parameter, buffer or tensor attribute by its dotted name."""
    for name in key.split("."):
        module = getattr(module, name)
    return module


def _without_gradients(forward):
    """Call with gradients off; where they are off already, which torch.no_grad does not ask, for nothing."""

    @functools.wraps(forward)
    def call(*arguments, **options):
        if torch.is_grad_enabled():
            with torch.no_grad():
                return forward(*arguments, **options)
        return forward(*arguments, **options)

    return call

'''
)


class Host(abc.ABC):
    """Collects the lines of ``forward``; what the hosts of all languages have in common.

    Parameters
    ----------
    sketch : Sketch
    params : dict
        Knobs; values of constexprs by name, and those of the language.
    """

    def __init__(self, sketch: Sketch, params: dict[str, Any]) -> None:
        self.sketch, self.params = sketch, params
        self.constants = dict(sketch.constexprs)
        self.views = {view.name: view for view in sketch.views}
        self.functions: list[str] = []
        self.lines: list[str] = []
        self.made: set[str] = set()

    @abc.abstractmethod
    def allocation(self, name: str) -> str:
        """Return the expression of a new tensor."""

    def make(self, name: str) -> None:
        """Allocate a tensor the first time that it is needed."""
        if name not in self.made:
            self.lines.append(f"{name} = {self.allocation(name)}")
            self.made.add(name)

    def number(self, text: str) -> str:
        """Return a size as Python."""
        return _IDENTIFIER.sub(lambda match: str(self.constants.get(match[0], match[0])), text)

    def symbols(self) -> None:
        """Add the lines that read the free sizes and refuse those that the sketch is wrong for."""
        said: dict[str, str] = {}
        checked: set[str] = set()
        for symbol in self.sketch.symbols:
            tensor = self.sketch.tensor(symbol.tensor)
            argument = argument_of(tensor.key)
            said[symbol.name] = f"{argument}.shape[{symbol.dim}]"
            first = f"_shape({argument}, {len(tensor.dims)}, {argument!r})[{symbol.dim}]"
            self.lines.append(f"{symbol.name} = {said[symbol.name] if argument in checked else first}")
            checked.add(argument)
        for condition in self.sketch.requires:
            stated = _IDENTIFIER.sub(lambda match: said.get(match[0], match[0]), condition)
            names = [name for name in _IDENTIFIER.findall(condition) if name in said]
            got = ", ".join(f"{said[name]} = {{{name}}}" for name in names)
            self.lines.append(f"if not {condition}:")
            self.lines.append(f"    raise ValueError(f'the kernel was made for {stated}; got {got}')")

    def shape(self, dims: Sequence[str]) -> str:
        """Return sizes as a Python tuple."""
        return "(" + "".join(f"{self.number(dim)}, " for dim in dims) + ")"

    def tensor(self, name: str) -> str:
        """Return the expression of a tensor or view."""
        view = self.views.get(name)
        if view is None:
            self.make(name)
            return name
        self.make(view.base)
        return (
            f"torch.as_strided({view.base}, {self.shape(view.dims)}, {self.shape(view.strides)}, "
            f"{self.number(view.offset)})"
        )

    def callee(self, target: str) -> str:
        """Return the function of the library for a target such as "aten.mm.default"."""
        return _CALLEES.get(target, f"torch.ops.{target}")

    def library(self, call: Call) -> None:
        """Add the lines of a library call."""
        spec = json.loads(call.spec)
        tensors = [self.tensor(name) for name in call.args]

        def decode(value: Any) -> str:
            if isinstance(value, str) and value.startswith("%"):
                return tensors[int(value[1:])]
            if isinstance(value, str) and value.startswith("="):
                return f"({self.number(value[1:])})"
            if isinstance(value, str) and value.startswith("torch."):
                return value
            if isinstance(value, list):
                return "[" + ", ".join(map(decode, value)) + "]"
            return repr(value)

        if self.falls_apart(call):
            tensors[0] += ".contiguous()"
        arguments = [decode(value) for value in spec["args"]]
        arguments += [f"{key}={decode(value)}" for key, value in spec["kwargs"].items()]
        result = f"{self.callee(call.target)}({', '.join(arguments)})"
        if "memory" in spec:
            result = f"{result}.permute({', '.join(map(str, spec['memory']))})"
        if len(call.dst) == 1 and not spec.get("several"):
            self.lines.append(f"{call.dst[0]} = {result}{self.made_dense(call.dst[0])}")
        else:
            self.lines.append(f"{''.join(f'{name}, ' for name in call.dst)}= {result}")
            self.lines += [f"{name} = {name}{dense}" for name in call.dst if (dense := self.made_dense(name))]
        self.made.update(call.dst)

    def falls_apart(self, call: Call) -> bool:
        """Return whether torch would do a call as a product and an addition of its own.

        It does so with a linear layer of a strided operand that is no matrix; of a dense one it makes one
        product that adds the bias.
        """
        given = self.views.get(call.args[0]) if call.args else None
        if call.target != "aten.linear.default" or given is None or len(call.args) < 3:
            return False
        return len(given.dims) > 2

    def made_dense(self, name: str) -> str:  # noqa: ARG002
        """Return what makes a library's result lie densely."""
        return ".contiguous()"

    def finish(self) -> None:
        """Add the lines that keep running statistics and return the results."""
        results = [self.tensor(name) for name in self.sketch.results]
        for key, name in self.sketch.updates:
            self.lines.append(f"_state(self, {key!r}).copy_({self.tensor(name)})")
        if self.sketch.structure == "tensor":
            self.lines.append(f"return {results[0]}")
        elif self.sketch.structure == "tuple":
            self.lines.append(f"return ({', '.join(results)},)")
        else:
            self.lines.append(f"return [{', '.join(results)}]")


class DeviceHost(Host):
    """Writes the whole Python source of a sketch for a language whose kernels are launched from Python.

    The loader of the language contains ``CHECKS``.
    """

    @abc.abstractmethod
    def source(self, forward: str, head: str, signature: str) -> str:
        """Return the module's text from the body of ``forward``, the text before it, and its parameters."""

    @abc.abstractmethod
    def launch(self, step: Launch) -> None:
        """Add the lines that start a kernel."""

    @abc.abstractmethod
    def window(self, call: Call, spec: dict[str, Any]) -> None:
        """Add the lines that start a pooling kernel."""

    def render(self) -> str:
        """Return the source."""
        self._prologue()
        steps = launches(self.sketch)
        for k, step in enumerate(steps):
            if isinstance(step, Launch):
                self.launch(step)
            elif step.target == "window":
                for name in step.dst:
                    self.make(name)
                self.window(step, json.loads(step.spec))
            elif not self.fused(step, steps[k + 1 :]):
                self.library(step)
        self.finish()
        head, _, signature = self.sketch.host.rpartition("\n    def forward")
        return self.source("\n".join("        " + line for line in self.lines), head, signature.rstrip())

    def fused(self, call: Call, rest: Sequence[Any]) -> bool:  # noqa: ARG002
        """Return whether a kernel of the language does a call's work; it has then added the lines."""
        return False

    def _prologue(self) -> None:
        self.symbols()
        inputs = [t for t in self.sketch.tensors if t.role == "input"]
        states = [t for t in self.sketch.tensors if t.role == "state"]
        first = next((t for t in inputs if t.dims), None)
        if first is not None:
            self.lines.append(f"device = {argument_of(first.key)}.device")
        else:
            given = [argument_of(t.key) for t in inputs] + [attribute(t.key) for t in states]
            self.lines.append(f"device = _device({', '.join(given)})")
        passed = self._only_passed()
        for t in self.sketch.tensors:
            if t.role == "input":
                self.lines.append(
                    f"{t.name} = _dense({argument_of(t.key)}, {t.dtype!r}, device, {self.shape(t.dims)}, "
                    f"{argument_of(t.key)!r})"
                )
            elif t.role == "state" and t.name in passed:
                # The library checks its own arguments; checking them again costs a small call its gain.
                self.lines.append(f"{t.name} = {attribute(t.key)}")
            elif t.role == "state":
                self.lines.append(
                    f"{t.name} = _dense({attribute(t.key)}, {t.dtype!r}, device, {self.shape(t.dims)}, "
                    f"{t.key!r})"
                )
            elif t.role == "const":
                self.lines.append(
                    f"{t.name} = torch.tensor({t.key}, dtype=_DTYPES[{t.dtype!r}], device=device)"
                    f".reshape({self.shape(t.dims)})"
                )
            if t.role in GIVEN:
                self.made.add(t.name)

    def _only_passed(self) -> set[str]:
        """Return the tensors that library calls take as they are, and nothing else touches."""
        calls = {name for s in walk(self.sketch.body) if isinstance(s, Call) for name in s.args}
        viewed = {view.base for view in self.sketch.views}
        windows = {
            name
            for s in walk(self.sketch.body)
            if isinstance(s, Call) and s.target == "window"
            for name in s.args
        }
        read = {s.source for s in walk(self.sketch.body) if isinstance(s, Load)}
        return calls - viewed - windows - read - set(self.sketch.results)

    def made_dense(self, name: str) -> str:
        """Return what makes a library's result lie densely, which one that is only returned need not."""
        used = {view.base for view in self.sketch.views} | {tensor for _, tensor in self.sketch.updates}
        for s in walk(self.sketch.body):
            used |= set(s.args) if isinstance(s, Call) else {s.source} if isinstance(s, Load) else set()
        return super().made_dense(name) if name in used or name not in self.sketch.results else ""

    def allocation(self, name: str) -> str:
        """Return the expression of a new tensor on the device of the inputs."""
        t = self.sketch.tensor(name)
        return f"torch.empty({self.shape(t.dims)}, dtype=_DTYPES[{t.dtype!r}], device=device)"

    def programs(self, step: Launch, widths: dict[str, int]) -> str:
        """Return the number of programs of a launch as Python; `widths` are the tiles of cut axes."""
        counts = []
        for axis in step.axes:
            width = widths.get(axis.var) or int(self.number(axis.step))
            size = self.number(axis.hi)
            counts.append(f"({size})" if width == 1 else f"(({size} + {width - 1}) // {width})")
        return " * ".join(counts) or "1"


def argument_of(key: str) -> str:
    """Return the expression of an input from a tensor's key (its position and expression)."""
    return key.split(" ", 1)[1]


def attribute(key: str) -> str:
    """Return the expression of a parameter or buffer by its dotted name."""
    parts = key.split(".")
    if all(part.isidentifier() for part in parts):
        return f"self.{key}"
    return f"_state(self, {key!r})"
