"""The report against what is counted by hand, for estimators and modules alike."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC
from torch.nn.functional import cross_entropy

from mlpapers.testing import check_result
from mlpapers.unlearning import DVWUClassifier, DVWURegressor
from mlpapers.unlearning.ascent import GradientAscentUnlearner
from mlpapers.unlearning.evaluation import evaluate_unlearning, membership_inference_auc, relearn_steps

NAMES = ("test_accuracy", "retain_accuracy", "forget_accuracy", "parameter_distance", "disagreement")
NAMES += ("kl_divergence", "mia_auc", "relearn_steps")


def three_classes(n=150):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3))
    y = (X @ [[1.0, -1.0, 0.0], [0.5, 0.5, -1.0], [0.0, 1.0, 1.0]] + rng.gumbel(size=(n, 3))).argmax(1)
    return X, y


def parts(X, y):
    """Split rows into forget (20), retain and test (50)."""
    return {"forget": (X[:20], y[:20]), "retain": (X[20:-50], y[20:-50]), "test": (X[-50:], y[-50:])}


def module_of(model):
    """The scikit-learn linear classifier as a torch module, double precision."""
    linear = torch.nn.Linear(model.coef_.shape[1], model.coef_.shape[0]).double()
    linear.weight.data = torch.tensor(model.coef_)
    linear.bias.data = torch.tensor(model.intercept_)
    return linear


class TestMembershipInference:
    @given(
        st.lists(st.integers(0, 5), min_size=1, max_size=12),
        st.lists(st.integers(0, 5), min_size=1, max_size=12),
    )
    @settings(deadline=None)
    def test_it_counts_pairs(self, members, others):
        pairs = [(a < b) + 0.5 * (a == b) for a in members for b in others]
        assert membership_inference_auc(members, others) == pytest.approx(np.mean(pairs), abs=1e-14)
        assert membership_inference_auc(others, members) == pytest.approx(1 - np.mean(pairs), abs=1e-14)

    def test_infinite_losses_are_the_largest(self):
        assert membership_inference_auc([1.0, 2.0], [math.inf]) == 1.0

    @pytest.mark.parametrize("bad", [[], [math.nan], [[1.0]]])
    def test_errors(self, bad):
        with pytest.raises(ValueError, match="loss_members"):
            membership_inference_auc(bad, [1.0])
        with pytest.raises(ValueError, match="loss_nonmembers"):
            membership_inference_auc([1.0], bad)


class TestEstimators:
    @pytest.fixture
    def evaluated(self):
        X, y = three_classes()
        est = DVWUClassifier(perturbation="none", random_state=0).fit(X[:-50], y[:-50])
        original = copy.deepcopy(est)
        est.unlearn(range(20))
        models = {"unlearned": est, "retrained": est.retrain(), "original": original}
        rows = parts(X, y)
        report = evaluate_unlearning(models["unlearned"], models["retrained"], **rows, original=original)
        return report, models, rows

    def test_scores_are_those_of_the_definitions(self, evaluated):
        report, models, rows = evaluated
        X = rows["test"][0]
        P = models["retrained"].predict_proba(X)
        for name, model in models.items():
            scores = getattr(report, name)
            for part in rows:
                assert getattr(scores, f"{part}_accuracy") == model.score(*rows[part])
            gap = np.hypot(
                np.linalg.norm(model.coef_ - models["retrained"].coef_),
                np.linalg.norm(model.intercept_ - models["retrained"].intercept_),
            )
            assert scores.parameter_distance == pytest.approx(gap, rel=1e-12)
            assert scores.disagreement == np.mean(model.predict(X) != models["retrained"].predict(X))
            kl = rel_entr(P, model.predict_proba(X)).sum(1).mean()
            # Rows sum to one to rounding, which is all there is where the models agree.
            assert scores.kl_divergence == pytest.approx(kl, rel=1e-9, abs=1e-15)
            losses = [
                -np.log(model.predict_proba(rows[part][0])[np.arange(len(rows[part][1])), rows[part][1]])
                for part in ("forget", "test")
            ]
            assert scores.mia_auc == membership_inference_auc(*losses)
        assert report.retrained.parameter_distance == report.retrained.disagreement == 0.0

    def test_relearning_ends_at_the_loss_of_the_original(self, evaluated):
        report, models, rows = evaluated
        X, y = rows["forget"]
        own = -np.log(models["original"].predict_proba(X)[np.arange(20), y]).mean()
        assert report.target_loss == pytest.approx(own, rel=1e-12)
        assert report.original.relearn_steps == 0.0
        assert report.retrained.relearn_steps >= 1.0
        assert report.relearn_steps == relearn_steps(models["unlearned"], (X, y), report.target_loss)

    def test_the_report_speaks_for_the_unlearned_model(self, evaluated):
        report, _, _ = evaluated
        frame = report.to_frame().set_index("model")
        assert frame.index.tolist() == ["unlearned", "retrained", "original"]
        for name in NAMES:
            assert getattr(report, name) == getattr(report.unlearned, name) == frame.loc["unlearned", name]
        assert all(name in report.summary() for name in (*NAMES, "retrained"))

    def test_result_promises(self, evaluated):
        report, models, rows = evaluated
        check_result(report)
        check_result(evaluate_unlearning(models["unlearned"], models["retrained"], **rows))

    def test_without_the_original_the_retain_rows_set_the_target(self, evaluated):
        _, models, rows = evaluated
        report = evaluate_unlearning(models["unlearned"], models["retrained"], **rows)
        X, y = rows["retain"]
        P = models["retrained"].predict_proba(X)
        assert report.original is None
        assert report.target_loss == pytest.approx(-np.log(P[np.arange(len(y)), y]).mean(), rel=1e-12)

    def test_regressors(self):
        X, _ = three_classes()
        y = X @ [1.0, 2.0, 3.0] + np.random.default_rng(1).normal(size=len(X))
        est = DVWURegressor(perturbation="none", random_state=0).fit(X[:-50], y[:-50])
        original = copy.deepcopy(est)
        est.unlearn(range(20))
        rows = parts(X, y)
        report = evaluate_unlearning(est, est.retrain(), **rows, original=original)
        # The squared loss is removed exactly; the condition number of the problem is below 10.
        assert report.parameter_distance < 1e-12
        assert report.disagreement < 1e-12
        assert math.isnan(report.kl_divergence)
        assert report.test_accuracy == pytest.approx(est.score(*rows["test"]), rel=1e-12)
        losses = [(original.predict(rows[part][0]) - rows[part][1]) ** 2 for part in ("forget", "test")]
        assert report.original.mia_auc == membership_inference_auc(*losses)
        gap = original.predict(rows["test"][0]) - est.predict(rows["test"][0])
        assert report.original.disagreement == pytest.approx(np.sqrt(np.mean(gap**2)), rel=1e-9)

    def test_scores_without_probabilities(self):
        X, y = three_classes()
        rows = parts(X, y)
        for labels in (y, (y > 0).astype(int)):
            rows = parts(X, labels)
            model = LinearSVC().fit(X, labels)
            report = evaluate_unlearning(model, model, **rows)
            assert math.isnan(report.kl_divergence)
            scores = {part: model.decision_function(rows[part][0]) for part in ("forget", "test")}
            if scores["test"].ndim == 1:
                margins = {part: s * (2 * rows[part][1] - 1) for part, s in scores.items()}
                losses = {part: np.log1p(np.exp(-m)) for part, m in margins.items()}
            else:
                losses = {
                    part: np.log(np.exp(s).sum(1)) - s[np.arange(len(s)), rows[part][1]]
                    for part, s in scores.items()
                }
            # Ranks of losses that differ by less than rounding could swap; none of these do.
            assert report.mia_auc == membership_inference_auc(losses["forget"], losses["test"])

    def test_models_without_parameters(self):
        X, y = three_classes()
        tree = RandomForestClassifier(5, random_state=0).fit(X[20:-50], y[20:-50])
        neighbours = KNeighborsClassifier(1).fit(X[:-50], y[:-50])
        report = evaluate_unlearning(neighbours, tree, **parts(X, y))
        assert math.isnan(report.parameter_distance)
        assert math.isnan(report.relearn_steps)
        assert report.forget_accuracy == 1.0
        # A vote of one neighbour gives its own label probability 1: a member has loss 0.
        wrong = 1.0 - report.test_accuracy
        assert report.mia_auc == pytest.approx(0.5 + wrong / 2)

    def test_a_class_that_only_some_models_know(self):
        X, y = three_classes()
        labels = np.array(["a", "b", "c"])[y]
        both = labels != "c"
        full, part = LogisticRegression().fit(X, labels), LogisticRegression().fit(X[both], labels[both])
        report = evaluate_unlearning(full, part, **parts(X, labels))
        P, Q = part.predict_proba(X[-50:]), full.predict_proba(X[-50:])
        assert report.kl_divergence == pytest.approx(rel_entr(P, Q[:, :2]).sum(1).mean(), abs=1e-9)
        assert math.isnan(report.parameter_distance)
        assert math.isnan(report.retrained.relearn_steps)
        unknown = labels[:20] == "c"
        losses = np.where(
            unknown,
            -np.log(1e-12),
            -np.log(part.predict_proba(X[:20])[np.arange(20), np.where(unknown, 0, y[:20])]),
        )
        test = labels[-50:] == "c"
        others = np.where(test, -np.log(1e-12), -np.log(P[np.arange(50), np.where(test, 0, y[-50:])]))
        assert report.retrained.mia_auc == membership_inference_auc(losses, others)


class TestModules:
    def test_a_linear_module_is_the_linear_classifier(self):
        X, y = three_classes()
        rows = parts(X, y)
        models = [LogisticRegression(C=C).fit(X[20:-50], y[20:-50]) for C in (0.05, 1.0, 5.0)]
        expected = evaluate_unlearning(models[0], models[1], **rows, original=models[2]).to_frame()
        modules = [module_of(model) for model in models]
        found = evaluate_unlearning(modules[0], modules[1], **rows, original=modules[2]).to_frame()
        # Relearning takes other step sizes.
        for name in NAMES[:-1]:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-9, atol=1e-14)
        mixed = evaluate_unlearning(modules[0], models[1], **rows, original=models[2]).to_frame()
        np.testing.assert_allclose(mixed[list(NAMES[:-1])], expected[list(NAMES[:-1])], rtol=1e-9, atol=1e-14)

    def test_one_logit(self):
        X, y = three_classes()
        y = (y > 0).astype(int)
        rows = parts(X, y)
        models = [LogisticRegression(C=C).fit(X[20:-50], y[20:-50]) for C in (0.05, 1.0)]
        expected = evaluate_unlearning(*models, **rows).to_frame()
        found = evaluate_unlearning(*map(module_of, models), **rows).to_frame()
        for name in NAMES[:-1]:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-9, atol=1e-14)

    def test_floating_targets_make_a_regressor(self):
        X, _ = three_classes()
        y = X @ [1.0, 2.0, 3.0] + np.random.default_rng(1).normal(size=len(X))
        rows = parts(X, y)
        models = [LinearRegression().fit(X[start:-50], y[start:-50]) for start in (0, 20)]
        modules = []
        for model in models:
            module = torch.nn.Linear(3, 1).double()
            module.weight.data, module.bias.data = (
                torch.tensor(model.coef_[None]),
                torch.tensor([model.intercept_]),
            )
            modules.append(module)
        found, expected = (evaluate_unlearning(*pair, **rows).to_frame() for pair in (modules, models))
        for name in NAMES[:-1]:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-9, atol=1e-12)

    def test_ascent_is_seen_and_modules_are_left_alone(self):
        X, y = three_classes()
        rows = {
            name: torch.utils.data.TensorDataset(torch.tensor(a), torch.tensor(b))
            for name, (a, b) in parts(X, y).items()
        }
        model = torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.Dropout(0.5), torch.nn.Linear(3, 3))
        model = model.double().train()
        model[1].eval()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        result = GradientAscentUnlearner(model, lr=0.5, n_steps=20, random_state=0).unlearn(rows["forget"])
        report = evaluate_unlearning(result.model, model, **rows, original=model)
        assert report.forget_accuracy < report.original.forget_accuracy
        assert report.relearn_steps > 0
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        assert [module.training for module in model] == [True, False, True]
        assert all(parameter.grad is None for parameter in model.parameters())


class TestRelearning:
    def test_a_linear_model_takes_the_steps_of_a_module(self):
        X, y = three_classes()
        model = LogisticRegression(C=0.01).fit(X, y)
        module = module_of(model)
        start = cross_entropy(module(torch.tensor(X[:20])), torch.tensor(y[:20])).item()
        steps = [
            [relearn_steps(m, (X[:20], y[:20]), start - drop, lr=0.1) for drop in (0.0, 0.05, 0.2)]
            for m in (model, module)
        ]
        assert steps[0] == steps[1]
        assert 0 == steps[0][0] < steps[0][1] < steps[0][2]

    def test_the_count_is_that_of_gradient_descent(self):
        # Half the squared error of one row, x = y = 1, no intercept: the residual shrinks by 1 - lr a step.
        model = LinearRegression(fit_intercept=False).fit([[1.0]], [0.0])
        for steps in (1, 2, 5):
            target = 0.5 * 0.9 ** (2 * steps)
            assert relearn_steps(model, ([[1.0]], [1.0]), target * 1.0001, lr=0.1) == steps
        assert relearn_steps(model, ([[1.0]], [1.0]), 0.0) == 1  # one step of 1 over the smoothness

    def test_out_of_reach(self):
        X, y = three_classes()
        model = LogisticRegression().fit(X, y)
        assert relearn_steps(model, (X, y), 1e-9, n_steps=20) == math.inf
        assert relearn_steps(module_of(model), (X, y), 1e-9, n_steps=20) == math.inf

    def test_rows_are_scaled_as_the_model_scales_them(self):
        X, y = three_classes()
        y = (y > 0).astype(int)
        model = DVWUClassifier(norm_bound=1.5, perturbation="none").fit(10.0 * X, y)
        losses = -np.log(model.predict_proba(10.0 * X)[np.arange(len(y)), y])
        assert relearn_steps(model, (10.0 * X, y), losses.mean() * (1 + 1e-9)) == 0
        assert relearn_steps(model, (10.0 * X, y), losses.mean() * (1 - 1e-3)) >= 1

    def test_default_step_never_raises_the_loss(self):
        X, y = three_classes()
        model = LogisticRegression(C=1e-3).fit(100.0 * X, y)
        forget = (100.0 * X[:20], y[:20])
        P = model.predict_proba(forget[0])
        start = -np.log(P[np.arange(20), y[:20]]).mean()
        counts = [relearn_steps(model, forget, start * share) for share in (0.99, 0.95, 0.9)]
        assert counts == sorted(counts)
        assert counts[0] >= 1
        assert math.isfinite(counts[-1])

    def test_errors(self):
        X, y = three_classes()
        model = LogisticRegression().fit(X, y)
        with pytest.raises(TypeError, match="RandomForestClassifier"):
            relearn_steps(RandomForestClassifier(2, random_state=0).fit(X, y), (X, y), 0.1)
        with pytest.raises(TypeError, match="classes"):
            relearn_steps(model, (X, y + 7), 0.1)
        with pytest.raises(ValueError, match="target_loss"):
            relearn_steps(model, (X, y), math.nan)
        with pytest.raises(ValueError, match="lr"):
            relearn_steps(model, (X, y), 0.1, lr=0.0)
        with pytest.raises(ValueError, match="n_steps"):
            relearn_steps(model, (X, y), 0.1, n_steps=0)


def test_what_cannot_be_evaluated():
    X, y = three_classes()
    model, rows = LogisticRegression().fit(X, y), parts(X, y)
    with pytest.raises(TypeError, match="unlearned must be"):
        evaluate_unlearning("model", model, **rows)
    with pytest.raises(TypeError, match="retrained must be"):
        evaluate_unlearning(model, object(), **rows)
    with pytest.raises(NotFittedError):
        evaluate_unlearning(model, LogisticRegression(), **rows)
    dataset = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(y))
    for bad, error, message in [
        (X, TypeError, "test must be a pair"),
        ((X, y[:-1]), ValueError, "test must be a pair .* one target per row"),
        ((X[:0], y[:0]), ValueError, "at least one"),
        ((X, np.stack([y, y], axis=1)), ValueError, "targets of shape"),
        (dataset, TypeError, "scikit-learn model needs rows"),
    ]:
        with pytest.raises(error, match=message):
            evaluate_unlearning(model, model, **{**rows, "test": bad})

    class Structured(torch.nn.Linear):
        def forward(self, x):
            return {"logits": super().forward(x)}

    structured = Structured(3, 3)
    with pytest.raises(TypeError, match="must return a tensor"):
        evaluate_unlearning(structured, structured, **rows)
