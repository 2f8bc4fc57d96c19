"""Released models predict what the estimator predicts, and hold nothing else."""

import pickle

import numpy as np
import pytest

from mlpapers.unlearning import DeletionLog, DVWUClassifier, DVWURegressor


@pytest.mark.parametrize("norm_bound", [None, 2.0])
@pytest.mark.parametrize(
    ("params", "n_classes", "kind"),
    [
        ({}, 2, "LogisticRegression"),
        ({"perturbation": "output"}, 3, "LogisticRegression"),
        ({"multi_class": "ovr"}, 3, "OneVsRestClassifier"),
        ({"loss": "smooth_hinge"}, 2, "LinearSVC"),
        ({"loss": "smooth_hinge"}, 3, "LinearSVC"),
    ],
)
def test_classifiers(binary, params, n_classes, kind, norm_bound):
    X = binary[0]
    cuts = [-0.5, 0.5] if n_classes == 3 else [0.0]
    y = np.array(["a", "b", "c"])[np.digitize(X[:, 0], cuts)]
    model = DVWUClassifier(random_state=0, norm_bound=norm_bound, **params).fit(X, y)
    model.unlearn([1, 2])
    released = model.release()
    last = released if norm_bound is None else released[-1]
    assert type(last).__name__ == kind
    np.testing.assert_array_equal(released.predict(X), model.predict(X))
    np.testing.assert_allclose(
        released.decision_function(X), model.decision_function(X), rtol=1e-12, atol=1e-14
    )
    if model.loss == "log_loss":
        np.testing.assert_allclose(released.predict_proba(X), model.predict_proba(X), rtol=1e-12, atol=1e-14)
    content = pickle.dumps(released)
    assert not any(row.tobytes() in content for row in X)
    assert len(content) < 10_000


def test_regressors_and_the_log(binary, tmp_path):
    X = binary[0]
    model = DVWURegressor(random_state=0, log_path=tmp_path / "log").fit(X, X[:, 0])
    released = model.release()
    np.testing.assert_allclose(released.predict(X), model.predict(X), rtol=1e-12)
    record = DeletionLog(tmp_path / "log").records()[-1]
    assert record["event"] == "release"
    assert record["params_digest"] == model._digest()
    released.coef_[:] = 0.0
    assert np.any(model.coef_ != 0.0)


@pytest.mark.parametrize("norm_bound", [None, 2.0])
def test_column_names_are_kept(binary, norm_bound):
    import pandas as pd

    frame = pd.DataFrame(binary[0], columns=list("abcde"))
    model = DVWUClassifier(random_state=0, norm_bound=norm_bound).fit(frame, binary[1])
    released = pickle.loads(pickle.dumps(model.release()))
    assert released.feature_names_in_.tolist() == list("abcde")
    np.testing.assert_array_equal(released.predict(frame), model.predict(frame))
    with pytest.raises(ValueError, match="feature names should match"):
        released.predict(frame[list("edcba")])
