"""One layer, polynomials, expectation-maximisation, and the limits of many unlabelled rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, special

from mlpapers.core.paper import Evidence, Measurement, Scale
from mlpapers.icl.claims._tasks import eigen_tasks, errors, plugin_error
from mlpapers.icl.em import GMMEMClassifier
from mlpapers.icl.landscape import one_layer_attention_loss, one_layer_optimal_loss, optimal_step_size
from mlpapers.icl.papers import ICL_UNLABELED as PAPER
from mlpapers.icl.plugin_error import infinite_context_error, spi_error
from mlpapers.icl.polynomial import (
    attention_degree,
    attention_manifold_dim,
    attention_polynomial,
    evaluate_attention_polynomial,
    factor_label_polynomial,
    is_label_expressible,
    jacobian_rank,
)
from mlpapers.icl.prompts import make_semisupervised_gmm, sample_gmm_prompts

Array = NDArray[np.float64]

_RESTARTS = 2


@PAPER.claim(
    "u1",
    "The loss of one layer has the supervised plug-in for its minimum, and descent from anywhere finds it.",
    source="Theorem 1",
)
def landscape(scale: Scale, seed: int) -> Evidence:
    rows = []
    for n, p, sigma, d in ((30, 0.3, 0.5, 4), (50, 0.2, 1.0, 10)):
        for start in range(4 if scale == "quick" else 20):
            loss, distance = _descend(n, p, sigma, d, np.random.default_rng([seed, start]))
            excess = loss - one_layer_optimal_loss(n, p, sigma, d)
            rows.append({"n": n, "p": p, "sigma": sigma, "d": d, "excess loss": excess, "distance": distance})
    table = pd.DataFrame(rows)
    return Evidence(
        measurements=[
            Measurement("largest loss - L*", table["excess loss"].max(), "<", 1e-9),
            Measurement("largest |W - c* I| / |c* I|", table["distance"].max(), "<", 1e-5),
        ],
        table=table,
        notes="BFGS on the exact loss of all weights of the layer, from random starts.",
    )


def _descend(n: int, p: float, sigma: float, d: int, rng: np.random.Generator) -> tuple[float, float]:
    """Run BFGS on the weights of a layer that divides by n; return the loss and the distance from c* I."""
    import torch

    def unpack(theta: Any) -> tuple[Any, Any, Any, Any]:
        return theta[: d * d].reshape(d, d) / n, theta[d * d : -d - 1] / n, theta[-d - 1 : -1], theta[-1]

    def loss(theta: Array) -> tuple[float, Array]:
        leaf = torch.from_numpy(theta).requires_grad_()
        value = one_layer_attention_loss(*unpack(leaf), n=n, p=p, sigma=sigma)
        value.backward()
        assert leaf.grad is not None
        return float(value.detach()), leaf.grad.numpy()

    start = 0.3 * rng.standard_normal(d * d + 2 * d + 1)
    options = {"gtol": 1e-11, "maxiter": 2000}
    end = optimize.minimize(loss, start, jac=True, method="BFGS", options=options)
    for _ in range(_RESTARTS):
        # Only products of (W_b, w_1) with (h_1, h_0) count; a long first step can blow one up and the other
        # down until nothing moves. Equal norms are the same layer with a gradient to follow.
        left, right = end.x[: -d - 1], end.x[-d - 1 :]
        scale = np.sqrt(np.linalg.norm(right) / np.linalg.norm(left))
        balanced = np.concatenate([left * scale, right / scale])
        end = optimize.minimize(loss, balanced, jac=True, method="BFGS", options=options)
    Wb, w1, h1, h0 = unpack(end.x)
    best = optimal_step_size(n, p, sigma, d) * np.eye(d)
    distance = np.linalg.norm(h0 * Wb + np.outer(w1, h1) - best) / np.linalg.norm(best)
    return float(end.fun), float(distance)


@PAPER.claim(
    "u2",
    "One layer ignores unlabelled rows: with ten labels its error is the same for 10 and for 1000 rows.",
    source="Theorem 1, Figure 1b",
)
def one_layer_ignores(scale: Scale, seed: int) -> Evidence:
    import torch

    from mlpapers.icl.linear_attention import MultilayerLinearAttention

    exact, d = spi_error(10, 1.0, 10), 10
    measurements, rows = [], []
    for n in (10, 50, 200, 1000):
        mean_errors, wrong = [], []
        for part in range(4 if scale == "quick" else 40):
            prompts = sample_gmm_prompts(500, n, d, n_labeled=10, random_state=10_000 * seed + n + 97 * part)
            mu_s = np.einsum("bni,bn->bi", prompts.X, prompts.y)
            cosine = (prompts.mu * mu_s).sum(axis=1) / np.linalg.norm(mu_s, axis=1)
            mean_errors.append(special.ndtr(-cosine))
            layer = MultilayerLinearAttention.from_polynomial([], [], optimal_step_size(n, 10 / n, 1.0, d), d)
            with torch.no_grad():
                f = layer(*(torch.from_numpy(a) for a in (prompts.X, prompts.y, prompts.x_query))).numpy()
            wrong.append(f * prompts.y_query <= 0)
        for name, values in (("plug-in", np.concatenate(mean_errors)), ("one layer", np.concatenate(wrong))):
            stderr = float(values.std() / np.sqrt(len(values)))
            rows.append({"n": n, "estimator": name, "error": float(values.mean()), "stderr": stderr})
            gap = abs(float(values.mean()) - exact) / stderr
            measurements.append(Measurement(f"n={n}, {name}: |error - {exact:.5f}|", gap, "<=", 3.0, "s.e."))
    return Evidence(measurements=measurements, table=pd.DataFrame(rows))


@PAPER.claim(
    "u4",
    "Layers with label and feature gains express sum a_i (X'X)^i X'y of degree (3^L - 3)/2, on a set of "
    "dimension 2L - 1.",
    source="Proposition 1, Lemma 1",
)
def expressivity(scale: Scale, seed: int) -> Evidence:
    import torch

    from mlpapers.icl.linear_attention import MultilayerLinearAttention

    rng = np.random.default_rng(seed)
    worst, degrees, ranks, rows = 0.0, 0, 0, []
    for L in range(1, 5):
        for _ in range(10 if scale == "quick" else 100):
            a, b = rng.normal(size=(2, L - 1)) / 4
            X, y, x = rng.normal(size=(1, 8, 3)) / 4, rng.normal(size=(1, 8)), rng.normal(size=(1, 3))
            model = MultilayerLinearAttention.from_polynomial(a, b, 1.0, 3)
            with torch.no_grad():
                f = float(model(*map(torch.from_numpy, (X, y, x)))[0])
            values, vectors = np.linalg.eigh(X[0].T @ X[0])
            A = vectors * evaluate_attention_polynomial(values, a, b) @ vectors.T
            worst = max(worst, abs(f - x[0] @ A @ X[0].T @ y[0]) / abs(f))
            degrees += len(attention_polynomial(a, b)) - 1 != attention_degree(L)
            ranks += jacobian_rank(a, b) != 2 * L - 1
        rows.append({"L": L, "degree": attention_degree(L), "dimension": attention_manifold_dim(L)})
    return Evidence(
        measurements=[
            Measurement("largest relative |layers - polynomial|", worst, "<", 1e-10),
            Measurement("degrees other than (3^L - 3)/2", degrees, "<=", 0),
            Measurement("Jacobian ranks other than 2L - 1", ranks, "<=", 0),
        ],
        table=pd.DataFrame(rows),
    )


@PAPER.claim(
    "u5",
    "L layers that update labels express exactly the polynomials of degree below L with real roots and "
    "P(0) != 0.",
    source="Proposition 1",
)
def label_polynomials(scale: Scale, seed: int) -> Evidence:
    rng = np.random.default_rng(seed)
    n_trials = 200 if scale == "quick" else 5000
    worst, accepted = 0.0, 0
    for _ in range(n_trials):
        L = int(rng.integers(2, 7))
        factors = rng.normal(size=rng.integers(0, L))
        coef = rng.normal() * np.atleast_1d(np.poly(-factors) if len(factors) else 1.0)
        c, found = factor_label_polynomial(coef)
        rebuilt = c * np.atleast_1d(np.poly(-found) if len(found) else 1.0)
        wrong = not is_label_expressible(coef, L)
        worst = max(worst, np.inf if wrong else float(np.abs(rebuilt - coef).max() / np.abs(coef).max()))
        root = rng.normal() + 1j * (0.05 + abs(rng.normal()))
        pair = np.polynomial.polynomial.polyfromroots([root, root.conjugate()]).real
        accepted += is_label_expressible(np.polynomial.polynomial.polymul(pair, coef), L + 2)
    return Evidence(
        measurements=[
            Measurement("largest relative error of the rebuilt polynomial", worst, "<=", 1e-8),
            Measurement("polynomials with a complex pair that were accepted", accepted, "<=", 0),
        ],
        notes=f"{n_trials} polynomials of each kind.",
    )


@PAPER.claim(
    "u6",
    "Expectation-maximisation is a loop of attention: for small means its map is linear in X'X, its "
    "likelihood only rises, and it is as good as the best plug-in.",
    source="Section 4.3",
    shares="tasks",
)
def expectation_maximisation(scale: Scale, seed: int) -> Evidence:
    n, m, d, sigma, n_tasks = 200, 10, 10, 1.0, 300 if scale == "quick" else 3000
    drop, em = 0.0, []
    for task in range(n_tasks):
        X, y, _, mu = make_semisupervised_gmm(n, d, n_labeled=m, random_state=seed * 100_000 + task)
        model = GMMEMClassifier(sigma=sigma, tol=1e-9, max_iter=2000).fit(X, y)
        history = np.array(model.log_likelihood_)
        drop = max(drop, float((-np.diff(history) / np.abs(history[:-1])).max(initial=0.0)))
        direction = model.means_[1]
        em.append(special.ndtr(-float(direction @ mu) / (sigma * np.linalg.norm(direction))))
    tasks = eigen_tasks(n, 0.0, m, d, sigma, 4000, seed)
    best, supervised = plugin_error(tasks, sigma, np.inf), spi_error(m, sigma, d)
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(200, d))
    unit = rng.normal(size=d)
    unit /= np.linalg.norm(unit)
    sizes = np.array([0.1, 0.05, 0.025])
    gaps = [
        np.linalg.norm(X.T @ np.tanh(X @ (size * unit)) / 200 - X.T @ X @ (size * unit) / 200)
        for size in sizes
    ]
    slope = float(np.polyfit(np.log(sizes), np.log(gaps), 1)[0])
    error = float(np.mean(em))
    return Evidence(
        measurements=[
            Measurement("largest relative fall of the likelihood", drop, "<=", 1e-9),
            Measurement("slope of log |EM map - linear map| on log |mu|", slope, "in", (2.7, 3.3)),
            Measurement("EM error - SSPI-inf error", error - best, "<=", 0.01),
            Measurement("SPI error - EM error", supervised - error, ">", 0.05),
        ],
        table=pd.DataFrame({"estimator": ["EM", "SSPI-inf", "SPI"], "error": [error, best, supervised]}),
        notes=f"n=200, 10 labels, d=10, sigma=1; EM on {n_tasks} tasks.",
    )


@PAPER.claim(
    "u8",
    "With endlessly many unlabelled rows the best polynomial knows the direction of the mean and votes its "
    "sign by the labels.",
    source="Theorems 2 and 3",
)
def infinite_context(scale: Scale, seed: int) -> Evidence:
    n_tasks = 4000 if scale == "quick" else 40_000
    limit, rows = infinite_context_error(10, 1.0), []
    for n in (1000, 20_000):
        tasks = eigen_tasks(n, 0.0, 10, 10, 1.0, n_tasks, seed)
        rows.append({"n": n, "error": plugin_error(tasks, 1.0, 1, mixing=0.0), "limit": limit})
    return Evidence(
        measurements=[Measurement("|error - limit| at n=20000", abs(rows[-1]["error"] - limit), "<", 0.005)],
        table=pd.DataFrame(rows),
        notes=f"SSPI-1, 10 labels, d=10, sigma=1, {n_tasks} tasks.",
    )


@PAPER.claim(
    "u9",
    "What semi-supervised error exceeds the Bayes error falls like 1/n at a fixed number of labels; what "
    "supervised error exceeds it stays.",
    source="Theorem 4",
)
def excess_error(scale: Scale, seed: int) -> Evidence:
    n_tasks = 4000 if scale == "quick" else 40_000
    floor, lengths = float(special.ndtr(-1.0)), 160 * 2 ** np.arange(6)
    semi, supervised = [], []
    for n in lengths:
        tasks = eigen_tasks(int(n), 0.0, 80, 10, 1.0, n_tasks, seed)
        semi.append(plugin_error(tasks, 1.0, 1, mixing=0.0) - floor)
        supervised.append(float(errors(tasks, tasks.mu_s, 1.0).mean()) - floor)
    slope = float(np.polyfit(np.log(lengths), np.log(semi), 1)[0])
    exact = spi_error(80, 1.0, 10) - floor
    deviation = float(np.abs(np.array(supervised) / 0.0134 - 1).max())

    def draw(ax: Any) -> None:
        ax.loglog(lengths, semi, "o-", label="SSPI-1")
        ax.loglog(lengths, supervised, "s-", label="SPI")
        ax.set(xlabel="rows n, 80 of them labelled", ylabel="error above the Bayes error")
        ax.legend()

    return Evidence(
        measurements=[
            Measurement("log-log slope of the semi-supervised excess", slope, "in", (-1.2, -0.8)),
            Measurement("largest |supervised excess / 0.0134 - 1|", deviation, "<=", 0.1),
        ],
        table=pd.DataFrame({"n": lengths, "SSPI-1 excess": semi, "SPI excess": supervised}),
        figure=draw,
        notes=f"80 labels, d=10, sigma=1, {n_tasks} tasks; exact supervised excess {exact:.5f}.",
    )
