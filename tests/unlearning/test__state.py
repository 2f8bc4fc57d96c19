"""State files: everything comes back, nothing is run."""

import numpy as np
import pytest

from mlpapers.core.result import ResultFormatError
from mlpapers.unlearning import DVWUClassifier, DVWURegressor


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"perturbation": "output"},
        {"perturbation": "none", "loss": "smooth_hinge"},
        {"value_function": "knn_shapley", "value_update": "recompute"},
        {"value_function": "influence", "weight_role": "forget"},
        {"random_state": np.random.RandomState(3)},
    ],
)
def test_a_loaded_estimator_goes_on_bit_for_bit(classify, tmp_path, params):
    model = classify(**params)
    model.unlearn(np.arange(60), request_id="first")
    path = model.save(tmp_path / "no suffix")
    assert path == tmp_path / "no suffix"
    assert [entry.name for entry in tmp_path.iterdir()] == ["no suffix"]
    loaded = DVWUClassifier.load(path)
    np.testing.assert_array_equal(loaded.coef_, model.coef_)
    np.testing.assert_array_equal(loaded.weights_, model.weights_)
    assert loaded.residual_bound_ == model.residual_bound_
    assert loaded.certificate_ == model.certificate_
    assert loaded.unlearn(np.arange(60), request_id="first").step_norm == model._requests["first"].step_norm
    for estimator in (model, loaded):
        estimator.unlearn([70, 71])
        estimator.reanchor()
    np.testing.assert_array_equal(loaded.coef_, model.coef_)
    np.testing.assert_array_equal(loaded.predict(np.eye(5)), model.predict(np.eye(5)))


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (["no", "maybe", "yes"], str),
        (["no", "maybe", "yes"], object),
        ([1, 2, 4], float),
        ([1, 2, 4], np.int32),
        ([1, 0, 1], bool),
    ],
)
def test_labels_of_any_type_come_back(binary, tmp_path, labels, kind):
    X = binary[0]
    y = np.array(labels, dtype=kind)[np.arange(200) % 3]
    model = DVWUClassifier(random_state=0).fit(X, y)
    loaded = DVWUClassifier.load(model.save(tmp_path / "state"))
    assert loaded.classes_.tolist() == model.classes_.tolist()
    assert loaded.classes_.dtype == model.classes_.dtype
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def test_column_names_and_one_against_the_rest(binary, tmp_path):
    import pandas as pd

    frame = pd.DataFrame(binary[0], columns=list("abcde"))
    y = np.digitize(frame["a"], [-0.5, 0.5])
    model = DVWUClassifier(multi_class="ovr", random_state=0).fit(frame, y)
    loaded = DVWUClassifier.load(model.save(tmp_path / "state"))
    assert loaded.feature_names_in_.tolist() == list("abcde")
    np.testing.assert_array_equal(loaded.predict_proba(frame), model.predict_proba(frame))
    assert loaded.unlearn([1]).step_norm == model.unlearn([1]).step_norm


def test_other_files_are_refused(classify, regress, tmp_path):
    path = classify().save(tmp_path / "state")
    with pytest.raises(ResultFormatError, match="holds a DVWUClassifier"):
        DVWURegressor.load(path)
    content = path.read_bytes()
    for damaged in (b"", b"not a zip", content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(ResultFormatError, match="damaged or not a saved estimator"):
            DVWUClassifier.load(path)
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ResultFormatError):
        DVWUClassifier.load(tmp_path / "other.npz")
    import json

    text = np.frombuffer(json.dumps({"format": "other"}).encode(), dtype=np.uint8)
    np.savez(tmp_path / "foreign.npz", manifest=text)
    with pytest.raises(ResultFormatError, match="must be a saved estimator of format"):
        DVWUClassifier.load(tmp_path / "foreign.npz")
    with pytest.raises(FileNotFoundError):
        DVWUClassifier.load(tmp_path / "absent")


def test_what_a_file_cannot_hold_is_named(classify, tmp_path):
    with pytest.raises(TypeError, match="weighting must be a name to be saved"):
        classify(np.arange(200.0), weighting=np.exp).save(tmp_path / "state")
    model = classify()
    model.verbose = [1]
    with pytest.raises(TypeError, match="verbose must be a number"):
        model.save(tmp_path / "state")
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_interrupted_saves_are_removed(classify, tmp_path):
    """They may hold rows that are forgotten by now."""
    (tmp_path / ".state.abc.part").write_bytes(b"rows")
    (tmp_path / ".other.abc.part").write_bytes(b"rows")
    classify().save(tmp_path / "state")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.abc.part", "state"]
