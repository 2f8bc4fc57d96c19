"""Fair classification with several sensitive features: the Bayes-optimal rule, computed exactly.

Group fairness (demographic parity, equal opportunity, predictive equality, accuracy parity, equalized odds)
is linear in a randomised classifier, so the best fair classifier is a threshold on P(Y = 1 | x) that moves
with the probabilities of belonging to each group. ``BayesFairClassifier`` estimates these, solves for the
weights and decides; around it are the linear program itself, accuracy-fairness frontiers, certificates,
metrics, and the paper's own procedures.
"""

from typing import TYPE_CHECKING

from mlpapers.core._lazy import attach

if TYPE_CHECKING:
    from mlpapers.datasets import load_adult as load_adult
    from mlpapers.datasets import load_compas as load_compas
    from mlpapers.datasets import load_german as load_german
    from mlpapers.fairness._checks import FairnessWarning as FairnessWarning
    from mlpapers.fairness.certificate import FairnessCertificate as FairnessCertificate
    from mlpapers.fairness.certificate import certify_fairness as certify_fairness
    from mlpapers.fairness.constraints import LinearConstraints as LinearConstraints
    from mlpapers.fairness.constraints import linear_constraints as linear_constraints
    from mlpapers.fairness.gaussian import GaussianTruth as GaussianTruth
    from mlpapers.fairness.gaussian import make_gaussian_groups as make_gaussian_groups
    from mlpapers.fairness.gridsearch import GridSearchFairClassifier as GridSearchFairClassifier
    from mlpapers.fairness.groups import GroupEncoding as GroupEncoding
    from mlpapers.fairness.groups import make_groups as make_groups
    from mlpapers.fairness.inprocessing import InProcessingFairClassifier as InProcessingFairClassifier
    from mlpapers.fairness.metrics import group_rates as group_rates
    from mlpapers.fairness.metrics import make_rate_metric as make_rate_metric
    from mlpapers.fairness.metrics import mean_difference as mean_difference
    from mlpapers.fairness.metrics import mean_ratio as mean_ratio
    from mlpapers.fairness.pareto import ParetoFrontResult as ParetoFrontResult
    from mlpapers.fairness.pareto import pareto_front as pareto_front
    from mlpapers.fairness.postprocessing import BayesFairClassifier as BayesFairClassifier
    from mlpapers.fairness.report import FairnessReport as FairnessReport
    from mlpapers.fairness.report import fairness_report as fairness_report
    from mlpapers.fairness.rule import paper_multipliers as paper_multipliers
    from mlpapers.fairness.rule import paper_rule as paper_rule
    from mlpapers.fairness.solver import FairLPResult as FairLPResult
    from mlpapers.fairness.solver import solve_fair_lp as solve_fair_lp

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "BayesFairClassifier": "postprocessing",
        "FairLPResult": "solver",
        "FairnessCertificate": "certificate",
        "FairnessReport": "report",
        "FairnessWarning": "_checks",
        "GaussianTruth": "gaussian",
        "GridSearchFairClassifier": "gridsearch",
        "GroupEncoding": "groups",
        "InProcessingFairClassifier": "inprocessing",
        "LinearConstraints": "constraints",
        "ParetoFrontResult": "pareto",
        "certify_fairness": "certificate",
        "fairness_report": "report",
        "group_rates": "metrics",
        "linear_constraints": "constraints",
        "load_adult": "mlpapers.datasets",
        "load_compas": "mlpapers.datasets",
        "load_german": "mlpapers.datasets",
        "make_gaussian_groups": "gaussian",
        "make_groups": "groups",
        "make_rate_metric": "metrics",
        "mean_difference": "metrics",
        "mean_ratio": "metrics",
        "paper_multipliers": "rule",
        "paper_rule": "rule",
        "pareto_front": "pareto",
        "solve_fair_lp": "solver",
    },
)
