"""The public API: names resolve, are documented, and speak the library's one vocabulary."""

import ast
import dataclasses
import importlib
import inspect
import re
from pathlib import Path

import pytest

from mlpapers.testing import find_vocabulary_violations, walk_api
from mlpapers.testing.api import public_packages

PACKAGES = public_packages()

# Names that stand although the vocabulary has another one: those of a paper's published interface, and the
# seed of a reproduction, which is the argument that claims are called with.
EXEMPT = {
    "core.Claim.run.seed",
    "core.ClaimOutcome.of.seed",
    "core.ClaimOutcome.seed",
    "core.Report.seed",
    "core.reproduce.seed",
    "attention.SelectiveTransformerLM.forward.labels",
    "attention.position_temperature.kind",
    "bandits.ComparisonResult",
    "bandits.PairwiseComparisonBandit.mode",
    "bandits.PricingInventoryEnv.play_level.level",
    "bandits.PricingInventoryEnv.profit.level",
    "fairness.GroupEncoding.with_groups.groups",
    "fairness.LinearConstraints.A",
    "fairness.LinearConstraints.labels",
    "fairness.solve_fair_lp.A",
    "icl.TaskMixture.weights",
    "kernels.Cassette.complete.seed",
    "kernels.Cassette.mode",
    "kernels.ChatClient.complete.seed",
    "kernels.Document.kind",
    "kernels.KernelAgent.budget",
    "kernels.KernelBench.level",
    "kernels.LiteLLMClient.complete.seed",
    "kernels.OpenAIClient.complete.seed",
    "kernels.ScriptedClient.complete.seed",
    "kernels.Task.build.seed",
    "kernels.Task.level",
    "optim.FiniteSum.from_sum.data",
    "optim.LinearFiniteSum.from_sum.data",
    "optim.QuadraticFiniteSum.from_sum.data",
    "optim.constraints.GroupL1Ball.groups",
    "optim.gap_certificate.mode",
    "optim.universal_attack.eps",
    "optim.universal_attack.labels",
    "testing.check_claim.seed",
    "unlearning.GradientAscentResult.weights",
    "unlearning.residual_bound.kind",
    "valuation.CurveResult.scores",
    "valuation.DataMarket.budget",
    "valuation.DataMarket.mode",
    "valuation.KNNShapley.algorithm",
    "valuation.point_addition_curve.steps",
    "valuation.point_removal_curve.steps",
    "valuation.recommend_variance.budget",
}

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_resolves(package):
    module = importlib.import_module(package)
    assert module.__all__ == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name in dir(module)


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_see_the_same_names(package):
    module = importlib.import_module(package)
    blocks = [
        node
        for node in ast.parse(Path(module.__file__).read_text()).body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    ]
    imported = {}
    for node in (statement for block in blocks for statement in block.body):
        assert isinstance(node, ast.ImportFrom), f"line {node.lineno}: only `from module import name as name`"
        for alias in node.names:
            assert alias.asname == alias.name, f"line {node.lineno}: write {alias.name} as {alias.name}"
            imported[alias.name] = node.module
    assert sorted(imported) == module.__all__
    for name, source in imported.items():
        origin = importlib.import_module(source)
        assert getattr(origin, name) is getattr(module, name)


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_documented(package):
    assert len(inspect.getdoc(importlib.import_module(package))) > 20


def test_every_public_object_is_documented():
    bare = []
    for item in walk_api():
        if not (inspect.isclass(item.value) or inspect.isroutine(item.value)):
            continue
        if not (item.value.__doc__ or "").strip():
            bare.append(item.qualified_name)
        if inspect.isclass(item.value):
            bare += [f"{item.qualified_name}.{name}" for name in undocumented_methods(item.value)]
    assert not bare


def undocumented_methods(kind):
    """Public methods and properties, defined in the library, that no class in the hierarchy documents."""
    for name in dir(kind):
        attribute = inspect.getattr_static(kind, name)
        function = attribute.fget if isinstance(attribute, property) else inspect.unwrap(getattr(kind, name))
        own = (getattr(function, "__module__", None) or "").startswith("mlpapers")
        if (
            not name.startswith("_")
            and own
            and callable(function)
            and not inspect.getdoc(getattr(kind, name))
        ):
            yield name


def test_names_follow_the_vocabulary():
    violations = find_vocabulary_violations(EXEMPT)
    assert not violations, "\n".join(
        ["rename these, or, where a published interface is followed, exempt them:", *violations]
    )


def test_a_name_means_one_thing_everywhere():
    meanings = {}
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            meanings.setdefault(name, {})[id(getattr(module, name))] = package
    ambiguous = {name: sorted(places.values()) for name, places in meanings.items() if len(places) > 1}
    assert not ambiguous


def test_packages_export_their_own_names_and_those_of_the_rooms_below():
    """A loader may stand again beside the method it is for, a part of ``core`` in the library itself."""
    below = {"mlpapers": "mlpapers.core.", "mlpapers.datasets": "sklearn.datasets."}
    foreign = []
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            origin = getattr(value, "__module__", None)
            rooms = (f"{package}.", below.get(package, "mlpapers.datasets."))
            if is_api(value) and not f"{origin}.".startswith(rooms):
                foreign.append(f"{package}.{name} comes from {origin}")
    assert not foreign


def is_api(value):
    return inspect.isclass(value) or inspect.isroutine(value)


def own_functions(item):
    """Yield the functions of a public object that the library defines: itself, or its public methods."""
    if inspect.isroutine(item.value) and item.value.__module__.startswith("mlpapers"):
        yield item.qualified_name, inspect.unwrap(item.value)
    elif inspect.isclass(item.value):
        for name, attribute in vars(item.value).items():
            function = inspect.unwrap(getattr(attribute, "__func__", attribute))
            own = (getattr(function, "__module__", None) or "").startswith("mlpapers")
            if inspect.isfunction(function) and own and (name == "__init__" or not name.startswith("_")):
                yield f"{item.qualified_name}.{name}", function


def test_everything_public_is_typed():
    bare = []
    for item in walk_api():
        for name, function in own_functions(item):
            signature = inspect.signature(function)
            parameters = [p for p in signature.parameters.values() if p.name not in ("self", "cls")]
            bare += [f"{name}: {p.name}" for p in parameters if p.annotation is p.empty]
            if signature.return_annotation is signature.empty and not name.endswith(".__init__"):
                bare.append(f"{name}: what it returns")
    assert not bare


def test_docstrings_describe_the_parameters_that_there_are():
    """The checks that the documentation's build makes of every page, on all public names at once."""
    validate = pytest.importorskip("numpydoc.validate").validate
    # PR01 is left out as in the build: fields of a dataclass are described as attributes.
    checks = {"GL03", "GL07", "GL08", "GL10", "PR02", "PR03", "PR05"}
    found = []
    for item in walk_api():
        if is_api(item.value):
            module, name = item.value.__module__, item.value.__qualname__
            errors = validate(f"{module}.{name}")["errors"]
            found += [f"{item.qualified_name}: {code} {text}" for code, text in errors if code in checks]
    assert not found


def shown_code():
    """Return all code that a reader sees: the gallery's scripts, and the blocks of the documentation."""
    scripts = [path.read_text(encoding="utf-8") for path in (ROOT / "examples").glob("*.py")]
    pages = [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.rst"),
        *(ROOT / "docs" / "guide").glob("*.rst"),
        *(ROOT / "docs" / "papers").glob("*.rst"),
    ]
    texts = [path.read_text(encoding="utf-8") for path in pages]
    blocks = [
        match[-1]
        for text in texts
        for pattern in (
            r"^( *)\.\. code-block:: python\n\n((?:\1   .*\n|[ \t]*\n)+)",
            r"^(```)python\n(.*?)^```",
        )
        for match in re.findall(pattern, f"{text}\n", re.MULTILINE | (re.DOTALL if "`" in pattern else 0))
    ]
    return "\n".join([*scripts, *blocks])


def shows_itself(value):
    """Whether a docstring, of a class or one of its methods, has an example."""
    members = [getattr(value, name) for name in vars(value)] if inspect.isclass(value) else []
    return any(">>>" in (inspect.getdoc(member) or "") for member in [value, *members])


def test_every_class_and_function_is_shown_in_an_example():
    """Errors, results and other values that functions return are left out: their makers are shown."""
    words = set(re.findall(r"\w+", shown_code()))
    missing = []
    for item in walk_api():
        made = inspect.isclass(item.value) and (
            issubclass(item.value, BaseException) or dataclasses.is_dataclass(item.value)
        )
        if is_api(item.value) and not made and item.name not in words and not shows_itself(item.value):
            missing.append(item.qualified_name)
    assert not missing, f"write an example, in the docstring or on a page: {missing}"
