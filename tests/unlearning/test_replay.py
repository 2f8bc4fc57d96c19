"""Replay and recovery: bit-equal, idempotent, whatever happened in between."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from mlpapers.unlearning import (
    DeletionLog,
    DVWUClassifier,
    DVWURegressor,
    LogCorruptionError,
    recover,
    replay,
)


@pytest.fixture
def logged(classify, tmp_path):
    """Return an estimator with log and state, and a copy of its state file as it was at fit."""

    def make(**params):
        model = classify(log_path=tmp_path / "log", state_path=tmp_path / "state", **params)
        (tmp_path / "at_fit").write_bytes((tmp_path / "state").read_bytes())
        return model, tmp_path / "at_fit"

    return make


CASES = [
    {},
    {"perturbation": "output", "noise_scale": 0.5},
    {"certificate": "exact", "noise_scale": 0.02},
    {"value_function": "knn_shapley", "value_update": "recompute"},
    {"value_function": "knn_shapley", "weight_role": "retain"},
    {"on_exhausted": "retrain", "noise_scale": 0.02},
]


@pytest.mark.parametrize("params", CASES)
def test_replay_is_bit_equal(logged, params):
    model, at_fit = logged(**params)
    model.unlearn([1, 2])
    model.reanchor()
    for start in range(10, 150, 20):  # more than a quarter: the rows are squeezed meanwhile
        model.unlearn(np.arange(start, start + 12), request_id=f"batch {start}")
    model.retrain()
    model.release()
    log = DeletionLog(model.log_.path)
    size = log.path.stat().st_size
    again = replay(DVWUClassifier.load(at_fit), log)
    np.testing.assert_array_equal(again.coef_, model.coef_)
    np.testing.assert_array_equal(again.intercept_, model.intercept_)
    np.testing.assert_array_equal(again.weights_, model.weights_)
    assert log.path.stat().st_size == size
    # Half-way, from the state file of now, and once more: nothing is done twice.
    assert replay(again, log) is again
    np.testing.assert_array_equal(again.coef_, model.coef_)
    now = recover(DVWUClassifier.load(model.state_path), log)
    np.testing.assert_array_equal(now.coef_, model.coef_)
    assert log.path.stat().st_size == size


def test_replay_checks_digests_and_rows(logged):
    model, at_fit = logged()
    model.unlearn([1])
    other = DVWUClassifier.load(at_fit)
    other.coef_ = other.coef_ + 1e-16 + np.abs(other.coef_).max() * 1e-15
    with pytest.raises(LogCorruptionError, match="params_digest"):
        replay(other, model.log_)
    log = DeletionLog(model.log_.path)
    log.append("request", request_id="far", indices=[10_000])
    with pytest.raises(LogCorruptionError, match="another log"):
        recover(DVWUClassifier.load(at_fit), log)
    nameless = DeletionLog(at_fit.with_name("nameless"))
    nameless.append("request", indices=[3])
    with pytest.raises(LogCorruptionError, match="no request_id"):
        recover(DVWUClassifier.load(at_fit), nameless)
    for bring_up in (replay, recover):
        with pytest.raises(TypeError, match="log must be a DeletionLog; got str"):
            bring_up(DVWUClassifier.load(at_fit), str(log.path))


def test_recover_finishes_a_pending_request(logged):
    model, at_fit = logged()
    log = DeletionLog(model.log_.path)
    log.append("request", request_id="late", indices=[4, 5])
    recovered = recover(DVWUClassifier.load(at_fit), log)
    assert recovered.forget_indices_.tolist() == [4, 5]
    assert log.pending() == []
    commits = [record for record in log.records() if record["event"] == "commit"]
    assert [record["indices"] for record in commits] == [[4, 5]]
    model.log_ = None
    model.unlearn([4, 5])
    np.testing.assert_array_equal(recovered.coef_, model.coef_)


def test_a_request_pending_in_the_log_is_not_logged_twice(logged):
    model, _ = logged()
    model.log_.append("request", request_id="late", indices=[5, 4])
    model.unlearn([4, 5], request_id="late")
    events = [record["event"] for record in model.log_.records()]
    assert events == ["fit", "request", "commit"]


def test_ids_in_the_log_cannot_be_reused(logged):
    model, at_fit = logged()
    model.unlearn([4], request_id="a")
    old = DVWUClassifier.load(at_fit)
    with pytest.raises(ValueError, match="other rows"):
        old.unlearn([5], request_id="a")
    with pytest.raises(ValueError, match="recover"):
        old.unlearn([4], request_id="a")


def test_a_new_fit_starts_a_new_generation(logged, binary):
    model, _ = logged()
    model.unlearn([4], request_id="a")
    again = model.fit(*binary[:2])
    assert again.forget_indices_.size == 0
    again.unlearn([9], request_id="a")
    fresh = DVWUClassifier.load(model.state_path)
    assert recover(fresh, model.log_).forget_indices_.tolist() == [9]


def test_a_clone_does_not_touch_the_files(logged, binary):
    model, _ = logged()
    model.unlearn([4], request_id="a")
    folder = Path(model.state_path).parent
    files = {path: path.read_bytes() for path in folder.iterdir()}
    for absent in ("log_path", "state_path"):
        other = clone(model).set_params(**{absent: None})
        with pytest.raises(FileExistsError, match=r"_path=.* is the file of another model"):
            other.fit(*binary[:2])
    with pytest.raises(ValueError, match="another model"):
        cross_val_score(model, *binary[:2], cv=3)
    assert {path: path.read_bytes() for path in folder.iterdir()} == files
    assert clone(model).set_params(log_path=None, state_path=None).fit(*binary[:2]).forget_indices_.size == 0
    assert DVWUClassifier.load(model.state_path).fit(*binary[:2]).forget_indices_.size == 0


def test_a_lost_commit_is_written_by_the_next_call(logged, monkeypatch):
    """The state file is replaced, then the log fails: the rows are gone, and only the log lags behind."""
    model, _ = logged()
    append = DeletionLog.append

    def failing(self, event, **fields):
        if event == "commit":
            raise OSError(28, "No space left on device")
        return append(self, event, **fields)

    monkeypatch.setattr(DeletionLog, "append", failing)
    with pytest.raises(OSError, match="No space"):
        model.unlearn([4], request_id="a")
    monkeypatch.undo()
    assert DVWUClassifier.load(model.state_path).forget_indices_.tolist() == [4]
    assert [record["request_id"] for record in model.log_.pending()] == ["a"]
    lagging = copy.deepcopy(model)
    lagging.unlearn([4], request_id="a")
    assert model.log_.pending() == []
    recover(model, model.log_)
    assert [record["event"] for record in model.log_.records()] == ["fit", "request", "commit"]


def test_a_regressor_recovers_too(regress, tmp_path):
    model = regress(loss="pseudo_huber", log_path=str(tmp_path / "log"), state_path=str(tmp_path / "state"))
    at_fit = DVWURegressor.load(tmp_path / "state")
    model.unlearn([1, 2, 3])
    np.testing.assert_array_equal(recover(at_fit, model.log_).coef_, model.coef_)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the children are forked")
def test_kill_at_every_step(tmp_path):
    """SIGKILL at every line of the transaction, and in the middle of both appends; see the script."""
    script = Path(__file__).with_name("kill_at_every_step.py")
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        capture_output=True,
        check=False,
        text=True,
        timeout=500,
        env={**os.environ, **threads},
    )
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert outcome["failures"] == []
    assert outcome["writes"] == 2
    assert outcome["steps"] > 50
    assert outcome["killed"] == outcome["steps"] + outcome["writes"]
