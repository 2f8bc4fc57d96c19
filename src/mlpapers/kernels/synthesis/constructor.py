"""The Python text around a kernel: the reference's constructor under the name ModelNew."""

from __future__ import annotations

import ast

from mlpapers.kernels.synthesis.skeleton import skeleton
from mlpapers.kernels.task import Task, TaskError


def host_text(task: Task, names: list[str]) -> tuple[str, list[str]]:
    """Return the module's text up to the header of ``forward``, and the expression of each argument.

    Parameters
    ----------
    task : Task
    names : list of str
        The captured names of the arguments.

    Returns
    -------
    text : str
    arguments : list of str
    """
    if task.live is not None:
        return skeleton(task, names)
    tree = ast.parse(task.resolved_source)
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    model = classes.get("Model")
    if model is None:
        raise TaskError(f"task {task.name!r}: Model must be a class of the source")
    header, arguments = _signature(model, classes, names)
    kept: list[ast.stmt] = []
    for statement in tree.body:
        if statement is model or _is_docstring(statement):
            continue
        if isinstance(statement, ast.FunctionDef) and statement.name in ("get_inputs", "get_init_inputs"):
            continue
        if isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test):
            continue
        if isinstance(statement, ast.ClassDef):
            statement = _without_forward(statement)
        kept.append(statement)
    model = _Renamer().visit(_without_forward(model))
    module = ast.Module(body=[*kept, model], type_ignores=[])
    text = ast.unparse(ast.fix_missing_locations(module))
    return f"import torch\n\n{text}\n\n    def forward({header}):", arguments


def _signature(
    model: ast.ClassDef, classes: dict[str, ast.ClassDef], names: list[str]
) -> tuple[str, list[str]]:
    """Return the parameters of ``forward`` as text, and the expression of each argument in them."""
    owner: ast.ClassDef | None = model
    while owner is not None:
        for statement in owner.body:
            if isinstance(statement, ast.FunctionDef) and statement.name == "forward":
                return _parameters(statement, names)
        base = next((b.id for b in owner.bases if isinstance(b, ast.Name) and b.id in classes), None)
        owner = classes[base] if base is not None else None
    return ", ".join(["self", *names]), names


def _parameters(function: ast.FunctionDef, names: list[str]) -> tuple[str, list[str]]:
    arguments = function.args
    for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
        argument.annotation = None
    if arguments.vararg is not None:
        arguments.vararg.annotation = None
    own = [argument.arg for argument in [*arguments.posonlyargs, *arguments.args]][1:]
    extra = arguments.vararg.arg if arguments.vararg is not None else ""
    expressions = [own[k] if k < len(own) else f"{extra}[{k - len(own)}]" for k in range(len(names))]
    return ast.unparse(arguments), expressions


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _without_forward(node: ast.ClassDef) -> ast.ClassDef:
    kept = [
        s
        for s in node.body
        if not (isinstance(s, ast.FunctionDef) and s.name == "forward") and not _is_docstring(s)
    ]
    node.body = kept or [ast.Pass()]
    return node


class _Renamer(ast.NodeTransformer):
    """Renames the class Model, and what its constructor calls it."""

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        self.generic_visit(node)
        if node.name == "Model":
            node.name = "ModelNew"
        return node

    def visit_Name(self, node: ast.Name) -> ast.Name:
        if node.id == "Model":
            node.id = "ModelNew"
        return node
