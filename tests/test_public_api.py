"""The public API: names resolve, are documented, and speak the library's one vocabulary."""

import ast
import importlib
import inspect
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
    "kernels.KernelAgent.budget",
    "kernels.KernelBench.level",
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
