"""The optimal rule on a population whose law is known."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mlpapers.core.paper import Evidence, Measurement, Scale
from mlpapers.fairness import LinearConstraints, paper_multipliers, paper_rule
from mlpapers.fairness._mixture import cell_mixture
from mlpapers.fairness.claims._inputs import (
    CONSTRAINTS,
    SHORT,
    Array,
    Optimum,
    optimum,
    population_violation,
)
from mlpapers.fairness.constraints import mean_rates
from mlpapers.fairness.papers import BAYES_FAIR as PAPER

POPULATION = "bayes-fair-population"
# Optimal 0-1 errors at tau = .9, blind, as computed independently.
KNOWN_ERRORS = {
    "complement": (0.3050, 0.2929, 0.2428, 0.2242, 0.3311),
    "inverse": (0.3067, 0.2867, 0.2469, 0.2143, 0.3255),
}


@PAPER.claim(
    "f3",
    "The Bayes-optimal fair classifier compares eta(x) with a threshold of the person's own: c plus a "
    "weighted sum of the probabilities of belonging to each group.",
    source="Lemma 3, Theorems 2 and 3, Remark 1",
    shares=POPULATION,
)
def threshold_rule(scale: Scale, seed: int) -> Evidence:  # noqa: ARG001 - the population is not random
    n, n_small = (121, 41) if scale == "quick" else (240, 81)
    rows = []
    for measure, tolerance in (("difference", 0.02), ("ratio", 0.1)):
        for constraint in CONSTRAINTS:
            best = optimum(constraint, measure, tolerance, n=n)
            small = optimum(constraint, measure, tolerance, n=n_small)
            rows.append(
                {
                    "measure": measure,
                    "notion": SHORT[constraint],
                    "error": best.error,
                    "disagreement": _disagreement(best, constraint, measure, tolerance),
                    "gap": abs(best.result.gap),
                    "cvxpy": abs(small.result.primal - _with_cvxpy(small)),
                }
            )
    table = pd.DataFrame(rows)
    return Evidence(
        [
            Measurement(
                "probability, off ties, of another decision", table["disagreement"].max(), "<=", 1e-6
            ),
            Measurement("largest duality gap", table["gap"].max(), "<=", 1e-8),
            Measurement("largest difference of the optimum to cvxpy's", table["cvxpy"].max(), "<=", 2e-7),
        ],
        table=table,
    )


def _disagreement(best: Optimum, constraint: str, measure: str, tolerance: float) -> float:
    rows = LinearConstraints(
        best.system.rows(best.joint), best.system.b, best.system.C, best.system.labels, best.system.options
    )
    H = paper_rule(
        best.joint,
        paper_multipliers(best.result, rows).to_numpy(),
        constraint=constraint,
        measure=measure,
        tolerance=tolerance,
        base_rates=mean_rates(best.joint, best.weights),
    )
    off_ties = np.abs(H) > 1e-9
    return float(best.weights @ (off_ties * np.abs(best.result.f - (H > 0))))


def _with_cvxpy(best: Optimum) -> float:
    import cvxpy as cp

    f = cp.Variable(len(best.weights), bounds=[0.0, 1.0])
    rows = best.system.rows(best.joint)
    problem = cp.Problem(
        cp.Maximize((best.weights * best.score) @ f),
        [(best.weights[:, None] * rows).T @ f <= best.system.b],
    )
    problem.solve(solver=cp.CLARABEL)
    return float(problem.value)


@PAPER.claim(
    "f4",
    "The characterisation covers rules that see the sensitive features and rules that do not; seeing them "
    "never hurts.",
    source="Abstract, Corollaries 1 and 2",
    shares=POPULATION,
)
def aware_and_blind(scale: Scale, seed: int) -> Evidence:  # noqa: ARG001 - the population is not random
    n = 121 if scale == "quick" else 240
    rows = []
    for constraint in CONSTRAINTS:
        blind = optimum(constraint, "difference", 0.02, n=n).error
        aware = optimum(constraint, "difference", 0.02, aware=True, n=n).error
        rows.append({"notion": SHORT[constraint], "aware": aware, "blind": blind})
    table = pd.DataFrame(rows)
    return Evidence(
        [
            Measurement(f"error aware - blind, {row.notion}", row.aware - row.blind, "<=", 0.0)
            for row in table.itertuples()
        ],
        table=table,
    )


@PAPER.claim(
    "f5",
    "The same holds for the mean ratio.",
    source="Lemma 2, Theorem 3",
    shares=POPULATION,
)
def mean_ratio_rule(scale: Scale, seed: int) -> Evidence:  # noqa: ARG001 - the population is not random
    n, n_highs = (121, 61) if scale == "quick" else (240, 121)
    rows = []
    for form, known in KNOWN_ERRORS.items():
        for constraint, error in zip(CONSTRAINTS, known):
            best = optimum(constraint, "ratio", 0.1, ratio_form=form, n=n)
            small = optimum(constraint, "ratio", 0.1, ratio_form=form, n=n_highs)
            general = optimum(constraint, "ratio", 0.1, ratio_form=form, n=n_highs, method="highs")
            slack = (best.weights * best.result.f) @ best.system.rows(best.joint) - best.system.b
            rows.append(
                {
                    "form": form,
                    "notion": SHORT[constraint],
                    "error": best.error,
                    "known error": error,
                    "excess": float(slack.max()),
                    "objective - HiGHS": abs(small.result.primal - general.result.primal),
                }
            )
    table = pd.DataFrame(rows)
    return Evidence(
        [
            Measurement("largest excess over a bound", table["excess"].max(), "<=", 1e-7),
            Measurement(
                "largest difference of the optimum to HiGHS's", table["objective - HiGHS"].max(), "<=", 1e-6
            ),
            Measurement(
                "largest difference to the known errors",
                (table["error"] - table["known error"]).abs().max(),
                "<=",
                5e-4,
            ),
        ],
        table=table,
    )


@PAPER.claim(
    "f6",
    "Composite notions are covered: equalized odds is equal opportunity and predictive equality together.",
    source="Remark 1",
    shares=POPULATION,
)
def equalized_odds(scale: Scale, seed: int) -> Evidence:  # noqa: ARG001 - the population is not random
    n = 121 if scale == "quick" else 240
    both, *parts = (
        optimum(name, "difference", 0.02, n=n)
        for name in ("equalized_odds", "equal_opportunity", "predictive_equality")
    )
    violations = [
        population_violation(name, both.joint, both.weights, both.result.f)
        for name in ("equal_opportunity", "predictive_equality")
    ]
    return Evidence(
        [
            Measurement(
                "error of both - larger error of one",
                both.error - max(part.error for part in parts),
                ">=",
                -1e-9,
            ),
            Measurement("difference of true positive rates", violations[0], "<=", 0.02 + 1e-7),
            Measurement("difference of false positive rates", violations[1], "<=", 0.02 + 1e-7),
        ]
    )


@PAPER.claim(
    "f11",
    "Where the optimal score vanishes on whole groups (accuracy parity and equalized odds with known "
    "sensitive features), a mixture of thresholds per cell attains the optimum.",
    source="Theorems 2 and 3, the set H = 0",
    shares=POPULATION,
)
def ties(scale: Scale, seed: int) -> Evidence:  # noqa: ARG001 - the population is not random
    n = 121 if scale == "quick" else 240
    rows = []
    for constraint in CONSTRAINTS:
        best = optimum(constraint, "difference", 0.02, aware=True, n=n)
        eta = best.joint[:, :, 1].sum(axis=1)
        codes = best.joint.sum(axis=2).argmax(axis=1)
        rule = cell_mixture(
            best.system,
            best.result.multipliers,
            best.joint,
            eta,
            codes,
            best.weights,
            0.5,
            best.result.primal,
        )
        f = rule.probabilities(best.joint, eta, codes)
        H = best.score - best.system.rows(best.joint) @ best.result.multipliers
        rows.append(
            {
                "notion": SHORT[constraint],
                "loss": best.result.primal - _value(best, f),
                "violation": population_violation(constraint, best.joint, best.weights, f),
                "tied mass": float(best.weights @ (np.abs(H) <= 1e-7)),
                "rules": len(rule.weights),
            }
        )
    table = pd.DataFrame(rows).set_index("notion")
    return Evidence(
        [
            *(
                Measurement(f"objective lost, {notion}", table.loc[notion, "loss"], "<=", 1e-3)
                for notion in ("AP", "EOdds")
            ),
            *(
                Measurement(
                    f"violation of the mixture, {notion}", table.loc[notion, "violation"], "<=", 0.02 + 1e-6
                )
                for notion in ("AP", "EOdds")
            ),
        ],
        table=table.reset_index(),
        notes="tied mass: "
        + ", ".join(f"{name} {table.loc[name, 'tied mass']:.2f}" for name in ("AP", "EOdds")),
    )


def _value(best: Optimum, f: Array) -> float:
    return float((best.weights * best.score) @ f)
