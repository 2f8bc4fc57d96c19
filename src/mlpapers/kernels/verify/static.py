"""The static policy: what the text of a candidate may not contain.

Rules apply to the syntax tree with names resolved, so neither docstrings nor comments trigger them. Embedded
C, C++ and CUDA text is judged without its comments. What cannot be seen in the text (methods of tensors,
operators) is recorded when the kernel runs, see ``mlpapers.kernels.verify.hacks``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

from mlpapers.core.validation import check_choice
from mlpapers.kernels.verify import _source
from mlpapers.kernels.verify.policy import LIBRARY_OPS, layer_allowed, torch_name_allowed
from mlpapers.kernels.verify.report import StaticIssue

_MODULES = frozenset(
    [
        "__future__", "collections", "dataclasses", "enum", "functools", "itertools", "math", "operator",
        "torch", "typing", "typing_extensions",
    ]
)  # fmt: skip
_DSL_MODULES = {
    "cpp": frozenset({"cffi"}),
    "triton": frozenset({"triton"}),
    "cuda": frozenset({"cupy", "cuda"}),
    "tilelang": frozenset({"tilelang", "tvm"}),
}
_BUILTINS = {
    "eval": "dynamic_code",
    "exec": "dynamic_code",
    "compile": "dynamic_code",
    "__import__": "dynamic_code",
    "globals": "introspection",
    "locals": "introspection",
    "vars": "introspection",
    "delattr": "patches_module",
    "open": "file_access",
    "input": "file_access",
    "breakpoint": "dynamic_code",
}
_INTROSPECTION = frozenset(
    [
        "__builtins__", "__bases__", "__class__", "__closure__", "__code__", "__dict__", "__func__",
        "__globals__", "__loader__", "__mro__", "__self__", "__spec__", "__subclasses__", "__wrapped__",
        "f_back", "f_globals", "f_locals", "gi_frame", "tb_frame",
    ]
)  # fmt: skip
_OVERRIDES = {
    "__call__": "overrides_call",
    "__getattribute__": "overrides_call",
    "__getattr__": "overrides_call",
    "state_dict": "overrides_state",
    "load_state_dict": "overrides_state",
    "_load_from_state_dict": "overrides_state",
    "__torch_function__": "tensor_subclass",
    "__torch_dispatch__": "tensor_subclass",
    "__eq__": "overrides_call",
    "__del__": "overrides_call",
}
# Prefix of a dotted path -> rule and reason.
_FORBIDDEN_PATHS = {
    "torch.compile": ("torch_compile", "leaves the work to torch.compile"),
    "torch.jit": ("torch_compile", "leaves the work to TorchScript"),
    "torch._dynamo": ("torch_compile", "leaves the work to torch.compile"),
    "torch._inductor": ("torch_compile", "leaves the work to torch.compile"),
    "torch.export": ("torch_compile", "leaves the work to torch.export"),
    "torch.fx": ("torch_compile", "leaves the work to torch.fx"),
    "torch.hub": ("file_access", "loads code or files"),
    "torch.load": ("file_access", "loads code or files"),
    "torch.save": ("file_access", "writes files"),
    "torch.manual_seed": ("seeding", "changes the global random state"),
    "torch.random": ("seeding", "changes the global random state"),
    "torch.set_rng_state": ("seeding", "changes the global random state"),
    "torch.seed": ("seeding", "changes the global random state"),
    "torch.initial_seed": ("seeding", "reads the seed"),
    "torch.set_num_threads": ("global_state", "changes the number of threads for everybody"),
    "torch.set_num_interop_threads": ("global_state", "changes the number of threads for everybody"),
    "torch.set_default_dtype": ("global_state", "changes the default dtype"),
    "torch.set_flush_denormal": ("global_state", "changes the arithmetic of the process"),
    "torch.set_float32_matmul_precision": ("global_state", "lowers the precision of everybody's products"),
    "torch.use_deterministic_algorithms": ("global_state", "changes global state"),
    "torch.set_default_device": ("global_state", "changes the default device"),
    "torch.multiprocessing": ("process", "starts processes"),
    "torch.distributed": ("process", "starts processes"),
    "torch.utils.data": ("process", "starts processes"),
    "torch.utils._python_dispatch": ("introspection", "watches the harness"),
    "torch.overrides": ("introspection", "watches the harness"),
    "torch.library": ("patches_module", "replaces operators"),
    "torch.Tensor.register_hook": ("patches_module", "hooks tensors"),
    "torch.nn.modules.module.register_module_forward_hook": ("patches_module", "hooks every module"),
    "torch.nn.modules.module.register_module_forward_pre_hook": ("patches_module", "hooks every module"),
    "torch.futures": ("async", "works after the call has returned"),
    "torch.cuda.Stream": ("side_stream", "works on a stream that is not timed"),
    "torch.cuda.stream": ("side_stream", "works on a stream that is not timed"),
    "torch.cuda.CUDAGraph": ("side_stream", "replays a graph with fixed memory"),
}
_C_RULES: tuple[tuple[str, str, str], ...] = (
    (r"std::thread|std::jthread|std::async|pthread_create|thrd_create", "thread", "starts threads"),
    (
        r"\b(?:v?fork|clone3?|system|popen|posix_spawnp?|execl[ep]?|execv[ep]*|execvpe|execlp)\s*\(",
        "process",
        "starts processes",
    ),
    (r"\b(?:socket|connect|bind|listen|getaddrinfo)\s*\(", "network", "uses the network"),
    (
        r"\b(?:fopen|freopen|opendir|openat|mmap|shm_open|unlink|remove|rename)\s*\(|\bi?o?fstream\b",
        "file_access",
        "reads or writes files",
    ),
    (r"\b(?:getenv|setenv|putenv|environ)\b", "environment", "reads the environment"),
    (r"\b(?:dlopen|dlsym|LoadLibrary)\b", "dynamic_code", "loads other code"),
    (r"\b(?:mprotect|ptrace|process_vm_\w+|syscall)\s*\(|\.incbin", "dynamic_code",
     "reaches past the process"),
    (r"\b(?:asm|__asm__|__asm)\s*(?:volatile|__volatile__)?\s*\([^)]*(?:syscall|int\s*\$0x80)",
     "dynamic_code", "makes system calls"),
    (r"_mm_setcsr|_MM_SET_FLUSH_ZERO_MODE|_MM_SET_DENORMALS|fesetround|fesetenv", "global_state",
     "changes the arithmetic of the process"),
    (r"\bomp_set_(?:num_threads|dynamic|nested|max_active_levels)\b", "global_state",
     "changes OpenMP's settings"),
    (r"cudaLimitPersistingL2CacheSize|accessPolicyWindow|cudaAccessPropertyPersisting|hitRatio",
     "l2_persistence", "keeps data in the cache that the harness flushes"),
    (r"cudaStreamCreate\w*|cudaGraphLaunch|cudaLaunchHostFunc", "side_stream",
     "works on a stream that is not timed"),
    (r"\b(?:clock_settime|settimeofday|adjtimex)\b", "patches_clock", "changes the clock"),
    (r"getDefaultCPUGenerator|\bmanual_seed\b|\bsrand\s*\(", "seeding", "changes the random state"),
    (r"\btorch::jit\b|torch::load\b|PyRun_\w+|PyEval_\w+|py::(?:exec|eval)\b", "dynamic_code",
     "runs other code"),
)  # fmt: skip
_C_TORCH = re.compile(r"\b(?:at|torch)::(?:_ops::)?([a-z_][a-z0-9_]*)\s*\(")


def static_check(code: str, *, dsl: str, library_ops: str = "contractions") -> list[StaticIssue]:
    """Return what the policy objects to in the text of a candidate.

    Parameters
    ----------
    code : str
        Python text that defines ``class ModelNew(nn.Module)``.
    dsl : str
        Name of the domain-specific language; its own checks run too, and its loader is not judged.
    library_ops : {"none", "contractions", "any"}
        What may be left to torch: nothing, its contractions (matrix products, convolutions, attention),
        anything.

    Returns
    -------
    issues : list of StaticIssue
        Empty where nothing is wrong; ordered by line.

    Raises
    ------
    ValueError
        If `dsl` or `library_ops` is unknown.

    Examples
    --------
    >>> static_check("class ModelNew(:", dsl="cpp")[0].rule
    'syntax'
    """
    from mlpapers.kernels.dsl import get_dsl

    check_choice("library_ops", library_ops, LIBRARY_OPS)
    language = get_dsl(dsl)
    modules = _MODULES | _DSL_MODULES.get(dsl, frozenset()) | frozenset(getattr(language, "modules", ()))
    issues = check_text(
        code, modules=modules, library_ops=library_ops, loader=getattr(language, "loader", "")
    )
    if not any(issue.rule == "syntax" for issue in issues):
        issues += [StaticIssue(*found) for found in language.check(code)]
    return sorted(set(issues), key=lambda issue: (issue.line, issue.rule))


def check_text(
    code: str, *, modules: frozenset[str] = _MODULES, library_ops: str = "contractions", loader: str = ""
) -> list[StaticIssue]:
    """Apply the policy that all languages share.

    Parameters
    ----------
    code : str
    modules : frozenset of str
        Top-level modules that may be imported.
    library_ops : str
    loader : str
        Text that is our own where it occurs in `code` to the letter.

    Returns
    -------
    issues : list of StaticIssue
    """
    if not code.strip():
        return [StaticIssue("empty", 0, "the source is empty")]
    if loader and loader in code:
        code = code.replace(loader, "\n" * loader.count("\n"), 1)
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", 0) or 0
        return [StaticIssue("syntax", line, f"no Python: {getattr(error, 'msg', None) or error}")]
    table = _source.with_aliases(tree, _source.import_table(tree))
    issues = list(_model_issues(tree, table))
    for rule in _TREE_RULES:
        issues += rule(tree, table)
    issues += _import_issues(tree, modules)
    issues += _operation_issues(tree, table, library_ops)
    issues += _c_issues(tree, library_ops)
    return list(dict.fromkeys(issues))


def _model_issues(tree: ast.Module, table: dict[str, str]) -> Iterator[StaticIssue]:
    kinds = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    model = kinds.get("ModelNew")
    if model is None:
        yield StaticIssue("missing_model", 0, "the source does not define class ModelNew")
        return
    bases = [_source.dotted(base, table) or ast.unparse(base) for base in model.bases]
    if any(base.rpartition(".")[2] == "Model" for base in bases):
        yield StaticIssue("subclass_reference", model.lineno, "ModelNew derives from the reference")
    elif "torch.nn.Module" not in bases and "torch.nn.modules.Module" not in bases:
        yield StaticIssue("missing_model", model.lineno, "ModelNew must derive from torch.nn.Module")


def _names_of_arguments(tree: ast.AST) -> set[ast.Name]:
    """Return the names in bodies of functions that mean an argument and not the builtin of that name."""
    found: set[ast.Name] = set()
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            taken = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
            arguments = {argument.arg for argument in taken}
            inside = (node for statement in function.body for node in ast.walk(statement))
            found |= {node for node in inside if isinstance(node, ast.Name) and node.id in arguments}
    return found


def _builtin_rule(tree: ast.AST, table: dict[str, str]) -> Iterator[StaticIssue]:
    arguments, forbidden = _names_of_arguments(tree), _BUILTINS.keys() - table.keys()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in forbidden and node not in arguments:
            yield StaticIssue(_BUILTINS[node.id], node.lineno, f"{node.id} is not allowed")
        if isinstance(node, ast.Attribute) and node.attr in _INTROSPECTION:
            # type(self).__name__ and super().__init__ are ordinary; these reach into the interpreter.
            yield StaticIssue("introspection", node.lineno, f"{node.attr} is not allowed")
        if isinstance(node, ast.Name) and node.id in ("__builtins__", "__loader__", "__spec__"):
            yield StaticIssue("introspection", node.lineno, f"{node.id} is not allowed")


def _getattr_rule(tree: ast.AST, table: dict[str, str]) -> Iterator[StaticIssue]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        name, arguments = node.func.id, node.args
        if name not in ("getattr", "setattr") or len(arguments) < 2:
            continue
        owner = _source.dotted(arguments[0], table)
        literal = isinstance(arguments[1], ast.Constant)
        if owner and name == "setattr":
            yield StaticIssue("patches_module", node.lineno, f"setattr on {owner}")
        elif owner or not literal:
            yield StaticIssue("getattr", node.lineno, f"{name} hides which name is used")


def _patch_rule(tree: ast.AST, table: dict[str, str]) -> Iterator[StaticIssue]:
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        elif isinstance(node, ast.Delete):
            targets = node.targets
        for target in targets:
            while isinstance(target, ast.Subscript):
                target = target.value
            path = _source.dotted(target, table) if isinstance(target, ast.Attribute) else ""
            if path.startswith("torch.backends"):
                yield StaticIssue("global_state", target.lineno, f"sets {path}")
            elif path:
                yield StaticIssue("patches_module", target.lineno, f"replaces {path}")


def _path_rule(tree: ast.AST, table: dict[str, str]) -> Iterator[StaticIssue]:
    for node, path in _source.outermost_paths(tree, table):
        for prefix, (rule, reason) in _FORBIDDEN_PATHS.items():
            if path == prefix or path.startswith(prefix + "."):
                yield StaticIssue(rule, node.lineno, f"{path} {reason}")


def _override_rule(tree: ast.AST, table: dict[str, str]) -> Iterator[StaticIssue]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        bases = [_source.dotted(base, table) for base in node.bases]
        if any(base in ("torch.Tensor", "torch.nn.Parameter", "torch.nn.Buffer") for base in bases):
            yield StaticIssue("tensor_subclass", node.lineno, f"{node.name} derives from a tensor")
        for item in node.body:
            if isinstance(item, ast.FunctionDef) and item.name in _OVERRIDES:
                yield StaticIssue(_OVERRIDES[item.name], item.lineno, f"{node.name} defines {item.name}")


def _fallback_rule(tree: ast.AST, table: dict[str, str]) -> Iterator[StaticIssue]:  # noqa: ARG001 - as others
    for function, _ in _source.functions(tree):
        for node in ast.walk(function):
            if isinstance(node, ast.Try) and node.handlers:
                yield StaticIssue("try_except", node.lineno, "try/except hides a fallback")
            if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.Yield | ast.YieldFrom):
                yield StaticIssue("async", node.lineno, "works after the call has returned")


_TREE_RULES: tuple[Callable[[ast.Module, dict[str, str]], Iterator[StaticIssue]], ...] = (
    _builtin_rule,
    _getattr_rule,
    _patch_rule,
    _path_rule,
    _override_rule,
    _fallback_rule,
)


def _import_issues(tree: ast.AST, modules: frozenset[str]) -> Iterator[StaticIssue]:
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""] if not node.level else ["."]
            if any(alias.name == "*" for alias in node.names):
                yield StaticIssue("import", node.lineno, f"imports everything from {node.module}")
        for name in names:
            if name.partition(".")[0] not in modules:
                yield StaticIssue("import", getattr(node, "lineno", 0), f"module {name!r} is not allowed")


def _operation_issues(tree: ast.AST, table: dict[str, str], library_ops: str) -> Iterator[StaticIssue]:
    """Yield the torch functions and layers that do the work inside functions."""
    known_layers = _source.layers(tree, table)
    for function, is_method in _source.functions(tree):
        decorators = {id(node) for item in function.decorator_list for node in ast.walk(item)}
        annotations = {
            id(node) for item in [*_annotations(function), *function.args.defaults] for node in ast.walk(item)
        }
        for node, path in _source.outermost_paths(function, table):
            if id(node) in decorators | annotations or not path.startswith("torch."):
                continue
            if not _is_forbidden(path) and not torch_name_allowed(path, library_ops):
                yield StaticIssue(
                    "torch_op", node.lineno, f"{path} does the work (library_ops={library_ops!r})"
                )
        if not is_method:
            continue
        for line, layer in _called_layers(function, known_layers):
            if not layer_allowed(layer, library_ops):
                yield StaticIssue("torch_op", line, f"nn.{layer} does the work (library_ops={library_ops!r})")


def _annotations(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.expr]:
    arguments = function.args
    every = [
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        arguments.vararg,
        arguments.kwarg,
    ]
    yield from (item.annotation for item in every if item is not None and item.annotation is not None)
    if function.returns is not None:
        yield function.returns


def _called_layers(function: ast.AST, layers: dict[str, str]) -> Iterator[tuple[int, str]]:
    """Yield line and class of each ``self.layer(...)`` and ``self.layer.forward(...)``."""
    for node in ast.walk(function):
        if not isinstance(node, ast.Call):
            continue
        target = node.func
        if isinstance(target, ast.Attribute) and target.attr == "forward":
            target = target.value
        of_self = isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name)
        if of_self and target.value.id == "self" and target.attr in layers:  # type: ignore[attr-defined]
            yield node.lineno, layers[target.attr]  # type: ignore[attr-defined]


def _is_forbidden(path: str) -> bool:
    return any(path == prefix or path.startswith(prefix + ".") for prefix in _FORBIDDEN_PATHS)


def _c_issues(tree: ast.AST, library_ops: str) -> Iterator[StaticIssue]:
    for line, text in _source.embedded_c(tree):
        for pattern, rule, reason in _C_RULES:
            for match in re.finditer(pattern, text):
                at = line + text.count("\n", 0, match.start())
                yield StaticIssue(rule, at, f"{match.group().strip()} {reason}")
        for match in _C_TORCH.finditer(text):
            if not torch_name_allowed(f"torch.{match.group(1)}", library_ops):
                at = line + text.count("\n", 0, match.start())
                yield StaticIssue("torch_op", at, f"{match.group().rstrip('(')} does the work")
