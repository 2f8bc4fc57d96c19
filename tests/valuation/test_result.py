"""Pooling, intervals, and the round trip of a valuation result."""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from mlpapers.valuation import AsymmetricShapley
from mlpapers.valuation.result import ValuationResult


def monte_carlo(draws, groups=(0, 0, 1), **meta):
    n = len(draws)
    return ValuationResult(
        values=draws.mean(axis=0),
        stderr=draws.std(axis=0, ddof=1) / np.sqrt(n) if n > 1 else np.zeros(draws.shape[1]),
        groups=np.array(groups),
        method="mc",
        meta={"n_permutations": n, **meta},
    )


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_pooled_results_are_those_of_one_run(n_a, n_b, seed):
    draws = np.random.default_rng(seed).normal(size=(n_a + n_b, 3))
    pooled = monte_carlo(draws[:n_a], note="kept") + monte_carlo(draws[n_a:])
    whole = monte_carlo(draws)
    assert np.abs(pooled.values - whole.values).max() <= 1e-12
    assert np.abs(pooled.stderr - whole.stderr).max() <= 1e-12
    assert pooled.meta == {"n_permutations": n_a + n_b, "note": "kept"}


def test_results_that_cannot_be_pooled():
    rng = np.random.default_rng(0)
    a = monte_carlo(rng.normal(size=(5, 3)))
    exact = ValuationResult(values=a.values, stderr=np.zeros(3), groups=a.groups, method="knn")
    other_method = ValuationResult(
        values=a.values, stderr=a.stderr, groups=a.groups, method="beta", meta=a.meta
    )
    for match, call in [
        ("only Monte Carlo", lambda: a + exact),
        ("methods", lambda: a + other_method),
        ("groups", lambda: a + monte_carlo(rng.normal(size=(5, 3)), groups=(0, 1, 1))),
        ("same run", lambda: a + a),
        (
            "same length",
            lambda: ValuationResult(values=np.zeros(2), stderr=np.zeros(3), groups=a.groups, method=""),
        ),
        ("confidence", lambda: a.to_frame(confidence=1.0)),
    ]:
        with pytest.raises(ValueError, match=match):
            call()
    with pytest.raises(TypeError):
        a + 1


def test_intervals_are_normal():
    result = monte_carlo(np.random.default_rng(1).normal(size=(9, 3)))
    frame = result.to_frame(confidence=0.8)
    half_width = norm.ppf(0.9) * result.stderr
    assert np.abs(frame["ci_high"] - frame["value"] - half_width).max() <= 1e-14
    assert np.abs(frame["value"] - frame["ci_low"] - half_width).max() <= 1e-14
    wide = result.to_frame(confidence=0.99)
    assert np.all(wide["ci_low"] < frame["ci_low"])


@given(st.integers(0, 8), st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_round_trip_of_any_result(n, seed):
    rng = np.random.default_rng(seed)
    values, stderr = rng.normal(size=(2, n)) * 10.0 ** rng.integers(-300, 300)
    result = ValuationResult(
        values=values, stderr=np.abs(stderr), groups=rng.integers(0, 3, n), method="mc", meta={"seed": seed}
    )
    with tempfile.TemporaryDirectory() as folder:
        back = ValuationResult.load(result.save(Path(folder) / "values.result"))
    for name in ("values", "stderr", "groups"):
        assert getattr(back, name).tobytes() == getattr(result, name).tobytes()
    assert (back.method, back.meta) == (result.method, result.meta)


def test_loaded_results_pool(tmp_path):
    result = monte_carlo(np.random.default_rng(2).normal(size=(4, 3)), metric="cosine")
    back = ValuationResult.load(result.save(tmp_path / "values.result"))
    assert back.meta == result.meta
    assert (back + monte_carlo(np.random.default_rng(3).normal(size=(4, 3)))).meta["n_permutations"] == 8


def test_summary_adds_up_by_group():
    result = ValuationResult(
        values=np.array([0.25, -0.125, 0.5]), stderr=np.zeros(3), groups=np.array([0, 0, 1]), method="knn"
    )
    lines = str(result).splitlines()
    assert "3 values, method knn, sum 0.625" in lines[0]
    assert lines[2].split() == ["0", "2", "0.125", "-0.125", "0.25"]
    assert lines[3].split() == ["1", "1", "0.5", "0.5", "0.5"]


def test_plot_draws_each_group_in_descending_order():
    result = monte_carlo(np.random.default_rng(4).normal(size=(5, 3)))
    ax = result.plot()
    curves = [line for line in ax.lines if line.get_label().startswith("group")]
    assert [len(curve.get_ydata()) for curve in curves] == [2, 1]
    assert np.array_equal(curves[0].get_ydata(), np.sort(result.values[:2])[::-1])
    assert result.plot(ax) is ax
    plt.close(ax.figure)


def test_names_of_players_index_the_table_and_come_back_from_a_file(tmp_path):
    draws = np.random.default_rng(5).normal(size=(4, 3))
    for names in (
        pd.Index(["ann", "bob", "cy"], name="value"),
        pd.date_range("2024-01-01", periods=3, tz="Europe/Paris"),
        pd.period_range("2024-01", periods=3, freq="M", name="month"),
        pd.interval_range(0.0, 3.0, closed="left"),
        pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["site", "row"]),
    ):
        result = dataclasses.replace(monte_carlo(draws), players=names)
        back = ValuationResult.load(result.save(tmp_path / "values.result"))
        assert back.to_frame().index.equals(names)
        assert list(back.to_frame()["index"]) == [0, 1, 2]
        plt.close(back.plot().figure)
        pooled = monte_carlo(draws + 1.0) + result
        assert pooled.players.equals(names)
        with pytest.raises(ValueError, match="results of different players"):
            dataclasses.replace(monte_carlo(draws + 1.0), players=names[::-1]) + result
    with pytest.raises(ValueError, match="players must name the 3 values; got 2"):
        dataclasses.replace(monte_carlo(draws), players=names[:2])


X, Y = np.random.default_rng(6).normal(size=(12, 2)), np.array(list("ab") * 6)
BAYES = GaussianNB()


def run(random_state, n_draws, X=X, model=BAYES, player_weights=None):
    valuer = AsymmetricShapley(
        model, method="mc", rtol=0, max_permutations=n_draws, random_state=random_state
    )
    return valuer.fit(X[:8], Y[:8], X[8:], Y[8:], player_weights=player_weights).result_


def through_file(result, path):
    return ValuationResult.load(result.save(path))


def test_runs_that_share_draws_are_not_pooled(tmp_path):
    pooled = through_file(run(0, 3) + run(1, 4), tmp_path / "pooled.result")
    for a, b in [
        (run(0, 3), run(0, 4)),
        (pooled, run(1, 2)),
        (run(0, 2), pooled),
        (run(np.random.SeedSequence(0), 3), run(0, 4)),
        (run(np.random.default_rng(5), 3), run(np.random.default_rng(5), 4)),
    ]:
        with pytest.raises(ValueError, match="share draws, those of the same seed"):
            a + b
    rng, seed = np.random.default_rng(5), np.random.SeedSequence(0)
    for a, b in [(pooled, run(2, 3)), (run(rng, 3), run(rng, 3)), (run(seed, 3), run(seed, 4))]:
        assert (a + b).meta["n_permutations"] == sum(r.meta["n_permutations"] for r in (a, b))


def test_runs_of_different_games_are_not_pooled(tmp_path):
    result = through_file(run(0, 3), tmp_path / "run.result")
    for other in [
        run(1, 3, X=X + 1e-9),
        run(1, 3, model=None),
        run(1, 3, model=GaussianNB(var_smoothing=1e-3)),
        run(1, 3, player_weights=np.arange(1, 9)),
    ]:
        with pytest.raises(ValueError, match="different data or utilities"):
            result + other
    # The same data in another container, and a run that draws more, are of the same game.
    assert (result + run(1, 5, X=pd.DataFrame(X))).meta["n_permutations"] == 8
    texts = pd.DataFrame({"word": ["a"] * 6 + ["b"] * 6, "size": np.arange(12.0)})
    model = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
    with pytest.raises(ValueError, match="different data"):
        run(0, 3, X=texts, model=model) + run(1, 3, X=texts.assign(word=Y), model=model)
    assert len(run(0, 3, X=texts, model=model) + run(1, 3, X=texts, model=model)) == 8


def test_results_without_seeds_are_pooled_as_they_were():
    new = run(0, 3)
    kept = {"n_permutations", "sampler", "antithetic"}
    old = dataclasses.replace(run(1, 4), meta={k: v for k, v in run(1, 4).meta.items() if k in kept})
    assert set((old + dataclasses.replace(old, values=old.values + 1.0)).meta) == kept
    for pooled in (old + new, new + old):
        assert {name: pooled.meta[name] for name in ("seeds", "game")} == {
            name: new.meta[name] for name in ("seeds", "game")
        }
        with pytest.raises(ValueError, match="share draws"):
            pooled + new
