"""Capture a task's computation at full size without allocating it."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import re
import warnings
from collections.abc import Iterator
from typing import Any

from mlpapers.core.validation import check_choice
from mlpapers.kernels.graph import lowering_layout as lowering_layout
from mlpapers.kernels.graph import lowering_library as lowering_library
from mlpapers.kernels.graph import lowering_pointwise as lowering_pointwise
from mlpapers.kernels.graph import lowering_reduce as lowering_reduce
from mlpapers.kernels.graph.ir import Builder, Graph, Node
from mlpapers.kernels.graph.lowering import Lowering, torch_dtypes
from mlpapers.kernels.graph.size import Sym
from mlpapers.kernels.task import Task, TaskError, check_task

SHAPE_POLICIES = ("batch", "static", "dynamic")

# Primes, so that no product of other sizes is one of them.
_UNUSUAL_SIZES = (7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97)
# Composite operations that we lower ourselves: our form is cheaper, more exact, or a library call as a whole.
_KEPT = (
    "linear", "matmul", "scaled_dot_product_attention", "mish", "softplus", "silu", "hardswish",
    "hardsigmoid",
    "hardtanh", "leaky_relu", "elu", "logsumexp", "native_layer_norm", "layer_norm", "native_group_norm",
    "var_mean",
    "std", "std_mean", "addcmul", "addcdiv", "lerp", "max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d",
    "avg_pool2d", "avg_pool3d", "_softmax", "_log_softmax", "cumsum", "cumprod", "flip", "roll",
    "linalg_vector_norm",
    "embedding", "index_select", "split", "chunk", "stack", "masked_fill", "clamp_min", "clamp_max",
    "one_hot",
    "rsub", "var",
    "softmax", "log_softmax", "addmm", "bmm", "baddbmm",
)  # fmt: skip
# What a user called where the captured program has another name for it.
_WANTED = {"aten._local_scalar_dense": "Tensor.item", "aten.item": "Tensor.item"}
_KEPT_APART = tuple(name for name in _KEPT if name != "scaled_dot_product_attention")


def capture(
    task: Task, *, shape_policy: str = "batch", algebra: bool = False, fused_attention: bool = True
) -> Graph:
    """Capture the graph of a task.

    The module is constructed, its inputs are drawn and ``forward`` is exported on fake tensors, so a task of
    any
    size is captured in no memory. Batch norm is in train mode and its running statistics are among the
    results.

    Parameters
    ----------
    task : Task
    shape_policy : {"batch", "static", "dynamic"}
        Sizes that stay free: the inputs' leading one, none, or all that are not tied to a parameter.
    algebra : bool
        Apply rewrites that hold for real numbers but not for every floating-point input (they are disclosed).
    fused_attention : bool
        Keep scaled dot-product attention as one operation, which is the library's; False takes it apart into
        products and a softmax.

    Returns
    -------
    graph : Graph

    Raises
    ------
    TaskError
        If the task cannot be built or exported, or returns something else than tensors.
    """
    check_task(task)
    check_choice("shape_policy", shape_policy, SHAPE_POLICIES)
    program, hints, arguments = _export(task, shape_policy, _KEPT if fused_attention else _KEPT_APART)
    _refuse_data_dependence(task, program)
    builder = Builder()
    lowering = Lowering(builder, {}, hints)
    builder.graph.free = shape_policy
    _add_leaves(task, program, lowering, arguments)
    for call in program.graph.nodes:
        value = call.meta.get("val")
        if call.op != "call_function" or value is None or not _has_tensor(value):
            continue
        lowering.lower(call)
    _add_results(task, program, lowering)
    graph = _pruned(builder.graph)
    if algebra:
        from mlpapers.kernels.graph.algebra import reassociate

        graph = _pruned(reassociate(graph))
    return graph


def _has_tensor(value: Any) -> bool:
    items = value if isinstance(value, list | tuple) else [value]
    return any(hasattr(item, "dtype") and hasattr(item, "shape") for item in items)


def _refuse_data_dependence(task: Task, program: Any) -> None:
    """Raise TaskError at the first operator whose result has a size, or is a number, that values decide."""
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

    for call in program.graph.nodes:
        if call.op == "call_function" and free_unbacked_symbols(call.meta.get("val")):
            name = str(call.target).removesuffix(".default")
            raise TaskError(
                f"task {task.name!r} cannot be captured: {_WANTED.get(name, name)} makes a size or a number "
                "that depends on the values of an input, which no kernel can be made for"
            )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's remarks about its own internals."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """Silence what the exporter logs and prints, whole graphs among it, when it fails."""
    log = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    before, log.disabled = log.disabled, True
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        log.disabled = before


def _export(task: Task, shape_policy: str, kept: tuple[str, ...]) -> tuple[Any, dict[str, int], list[Any]]:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

    with _quiet():
        module, inputs = _built(task, FakeTensorMode(allow_non_fake_inputs=True))
    if any(isinstance(value, torch.Tensor) and not hasattr(value, "fake_mode") for value in inputs):
        with _quiet(), FakeTensorMode(allow_non_fake_inputs=True) as mode:
            inputs = [mode.from_tensor(v) if isinstance(v, torch.Tensor) else v for v in inputs]
    try:
        with _quiet(), _unlogged(), torch.no_grad():
            program, hints = _export_at_any_batch(torch, module, inputs, shape_policy)
            table = torch.export.default_decompositions()
            for op in list(table):
                if str(getattr(op, "__name__", op)).split(".")[0] in kept:
                    table.pop(op)
            program = program.run_decompositions(table)
    except GuardOnDataDependentSymNode as error:
        place = re.search(r"The following call raised this error:\s*(File [^\n]*\n[^\n]*)", str(error))
        raise TaskError(
            f"task {task.name!r} cannot be captured: forward decides in Python by the value of an input "
            "(a tensor, or an argument that is a number or a flag); torch.where takes either of two values"
            + (f": {' '.join(place[1].split())[:300]}" if place else "")
        ) from error
    except Exception as error:
        raise TaskError(
            f"task {task.name!r} cannot be captured: {type(error).__name__}: {str(error).strip()[:400]}"
        ) from error
    return program, hints, inputs


def _built(task: Task, mode: Any) -> tuple[Any, list[Any]]:
    """Return the task's module and its inputs as fake tensors.

    An instance is copied around fake weights: nothing is allocated, and what is tied stays tied. Tensors that
    are neither its parameters nor its buffers keep their values.
    """
    instance = task.instance
    if instance is None:
        with mode:
            return task.build()
    fakes = {id(value): mode.from_tensor(value) for value in (*instance.parameters(), *instance.buffers())}
    with mode:
        inputs = task.draw_inputs()
    try:
        return copy.deepcopy(instance, fakes), inputs
    except (RuntimeError, TypeError) as error:
        raise TaskError(f"task {task.name!r}: the module cannot be copied: {error}") from error


def _export_at_any_batch(
    torch: Any, module: Any, inputs: list[Any], shape_policy: str
) -> tuple[Any, dict[str, int]]:
    """Export, and return the values at the task's own sizes of symbols that were captured at others.

    The exporter takes a size of 1 for a constant. A leading size of 1 is therefore captured at a size that
    nothing else in the task has; where `forward` does not accept that, or fixes it, 1 stays a constant.
    """
    leading = [k for k, v in enumerate(inputs) if isinstance(v, torch.Tensor) and v.dim()]
    ones = [k for k in leading if inputs[k].shape[0] == 1]
    if shape_policy == "static" or not ones or ones[0] != leading[0]:
        return _export_module(torch, module, inputs, shape_policy), {}
    sizes = {size for v in inputs if isinstance(v, torch.Tensor) for size in v.shape}
    sizes |= {size for v in module.state_dict().values() for size in v.shape}
    other = next(size for size in _UNUSUAL_SIZES if size not in sizes)
    for places in (ones, ones[:1]) if len(ones) > 1 else (ones,):
        wide = list(inputs)
        for k in places:
            wide[k] = inputs[k].expand(other, *inputs[k].shape[1:]).contiguous()
        try:
            program = _export_module(torch, module, wide, shape_policy)
        except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError):
            continue
        hints = _free_leading(program, places)
        if hints:
            return program, hints
    return _export_module(torch, module, inputs, shape_policy), {}


def _free_leading(program: Any, places: list[int]) -> dict[str, int]:
    """Return the values of all free sizes with 1 for the leading ones at `places`; {} where one is fixed."""
    from torch.export.graph_signature import InputKind

    calls = {call.name: call for call in program.graph.nodes if call.op == "placeholder"}
    specs = [s for s in program.graph_signature.input_specs if s.kind == InputKind.USER_INPUT]
    hints: dict[str, int] = {}
    widened: set[str] = set()
    for k, spec in enumerate(specs):
        value = calls[spec.arg.name].meta.get("val") if spec.arg.name in calls else None
        for d, size in enumerate(getattr(value, "shape", ())):
            name = str(size.node.expr) if hasattr(size, "node") else ""
            if d == 0 and k in places:
                if not name.isidentifier():
                    return {}
                widened.add(name)
            elif name.isidentifier():
                hints[name] = int(size.node.hint)
    # Where another size follows the widened one, it is no free batch.
    return {} if widened & set(hints) else hints | dict.fromkeys(widened, 1)


def _export_module(torch: Any, module: Any, inputs: list[Any], shape_policy: str) -> Any:
    """Export with free sizes where the policy asks for them; the exporter fixes those that cannot be free."""
    fake = next((value.fake_mode for value in inputs if hasattr(value, "fake_mode")), None)

    def convert(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value
        with fake if fake is not None else contextlib.nullcontext():
            return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else torch.int64)

    arguments = tuple(convert(value) for value in inputs)
    if shape_policy == "static":
        return torch.export.export(module, arguments, strict=False)
    auto = torch.export.Dim.AUTO
    rank = 1 if shape_policy == "batch" else 99
    # The exporter fixes sizes 0 and 1 in any case.
    free = tuple(
        {d: auto for d in range(min(value.dim(), rank)) if value.shape[d] > 1} or None for value in arguments
    )
    try:
        return torch.export.export(module, arguments, dynamic_shapes=_by_name(module, free), strict=False)
    except (RuntimeError, ValueError, TypeError, NotImplementedError, torch._dynamo.exc.UserError):
        return torch.export.export(module, arguments, strict=False)


def _by_name(module: Any, free: tuple[Any, ...]) -> Any:
    """Arrange the free dims as the exporter wants them: variadic arguments are one tuple."""
    import inspect

    # Everything is given by position; what else there is has its default.
    apart = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    parameters = [p for p in inspect.signature(module.forward).parameters.values() if p.kind not in apart]
    if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
        return {
            p.name: (free[k:] if p.kind is inspect.Parameter.VAR_POSITIONAL else free[k])
            for k, p in enumerate(parameters)
            if k < len(free)
        }
    return free


def _add_leaves(task: Task, program: Any, lo: Lowering, arguments: list[Any]) -> None:
    from torch.export.graph_signature import InputKind

    placeholders = {call.name: call for call in program.graph.nodes if call.op == "placeholder"}
    known = torch_dtypes()
    argument = 0
    for spec in program.graph_signature.input_specs:
        call = placeholders.get(spec.arg.name)
        value = call.meta.get("val") if call is not None else None
        is_tensor = hasattr(value, "dtype")
        if spec.kind == InputKind.USER_INPUT:
            position = -1
            if value is not None and call is not None and is_tensor:
                if value.dtype not in known:
                    raise TaskError(
                        f"task {task.name!r}: input {argument} has unsupported dtype {value.dtype}"
                    )
                position = lo.b.add(
                    "input", (), lo.shape(call), lo.dtype(call), argument=argument,
                    number=not hasattr(arguments[argument], "dtype"),
                )  # fmt: skip
                for d, size in enumerate(lo.shape(call)):
                    if isinstance(size, Sym) and size.expr.is_Symbol:
                        lo.b.graph.symbols.setdefault(str(size.expr), (argument, d))
            lo.b.graph.inputs.append((spec.arg.name, position))
            argument += 1
        elif value is not None and call is not None and is_tensor:
            position = _state(task, program, lo, call, spec)
        else:
            continue
        if call is not None:
            lo.values[call] = position
    used = {
        str(symbol)
        for node in lo.b.graph.nodes
        for size in node.shape
        if isinstance(size, Sym)
        for symbol in size.expr.free_symbols
    }
    if not used <= set(lo.b.graph.symbols):
        raise TaskError(f"task {task.name!r}: the free sizes {sorted(used)} cannot be read off the inputs")


def _state(task: Task, program: Any, lo: Lowering, call: Any, spec: Any) -> int:
    from torch._subclasses.fake_tensor import FakeTensor
    from torch.export.graph_signature import InputKind

    if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER) or "lifted_tensor" not in str(spec.target):
        if spec.kind not in (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR):
            raise TaskError(f"task {task.name!r}: {spec.target} is of an unsupported kind, {spec.kind}")
        return lo.b.add("state", (), lo.shape(call), lo.dtype(call), key=str(spec.target))
    value = program.constants[spec.target]
    if isinstance(value, FakeTensor):
        if value.constant is None:
            raise TaskError(f"task {task.name!r}: a tensor made in forward has no known value")
        value = value.constant
    if value.numel() == 1:
        return lo.b.expand(lo.b.scalar(value.item(), lo.dtype(call)), lo.shape(call))
    return lo.b.add("const", (), lo.shape(call), lo.dtype(call), values=value.flatten().tolist())


def _add_results(task: Task, program: Any, lo: Lowering) -> None:
    from torch.export.graph_signature import OutputKind

    results = next(call for call in program.graph.nodes if call.op == "output").args[0]
    for spec, value in zip(program.graph_signature.output_specs, results):
        if spec.kind == OutputKind.BUFFER_MUTATION:
            lo.b.graph.updates.append((str(spec.target), lo.values[value]))
        elif spec.kind == OutputKind.USER_OUTPUT:
            if value not in lo.values:
                raise TaskError(f"task {task.name!r}: forward must return tensors; got {value!r}")
            lo.b.graph.outputs.append(lo.values[value])
        else:
            raise TaskError(f"task {task.name!r}: forward changes {spec.target}, which is unsupported")
    out = program.call_spec.out_spec
    if out.is_leaf():
        lo.b.graph.structure = "tensor"
    elif (
        out.type is not None
        and issubclass(out.type, tuple | list)
        and all(c.is_leaf() for c in out.children())
    ):
        lo.b.graph.structure = "list" if issubclass(out.type, list) else "tuple"
    else:
        raise TaskError(
            f"task {task.name!r}: forward must return a tensor or a flat tuple or list of tensors"
        )
    for position in lo.b.graph.outputs:
        if lo.b.node(position).dtype not in set(torch_dtypes().values()):
            raise TaskError(f"task {task.name!r}: an output has an unsupported dtype")


def _pruned(graph: Graph) -> Graph:
    """Return the graph without nodes that no result needs (arguments of ``forward`` are kept)."""
    needed: set[int] = set()
    stack = [*graph.outputs, *(position for _, position in graph.updates)]
    while stack:
        position = stack.pop()
        if position not in needed:
            needed.add(position)
            stack.extend(graph.nodes[position].inputs)
    needed.update(position for _, position in graph.inputs if position >= 0)
    order = sorted(needed)
    places = {old: new for new, old in enumerate(order)}
    nodes = [
        Node(places[old], node.op, tuple(places[i] for i in node.inputs), node.attrs, node.shape, node.dtype)
        for old, node in ((old, graph.nodes[old]) for old in order)
    ]
    graph.nodes = nodes
    graph.inputs = [(name, places.get(position, -1)) for name, position in graph.inputs]
    graph.outputs = [places[position] for position in graph.outputs]
    graph.updates = [(key, places[position]) for key, position in graph.updates]
    return graph
