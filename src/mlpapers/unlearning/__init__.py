"""Certified unlearning: taking rows out of a trained model, with a receipt that says what is proved.

``DVWUClassifier`` and ``DVWURegressor`` forget rows with one weighted Newton step under output or objective
perturbation; ``DeletionLog``, ``replay`` and ``recover`` keep a tamper-evident, crash-safe record;
``GradientAscentUnlearner`` does what can be done, uncertified, for networks; ``audit_epsilon`` and
``evaluate_unlearning`` check. Around them: values and weights, the Gaussian mechanism, and the bounds that
certificates rest on.
"""

from typing import TYPE_CHECKING

from mlpapers.core._lazy import attach

if TYPE_CHECKING:
    from mlpapers.datasets import load_unlearning_data as load_unlearning_data
    from mlpapers.unlearning.ascent import GradientAscentResult as GradientAscentResult
    from mlpapers.unlearning.ascent import GradientAscentUnlearner as GradientAscentUnlearner
    from mlpapers.unlearning.audit import AuditResult as AuditResult
    from mlpapers.unlearning.audit import audit_epsilon as audit_epsilon
    from mlpapers.unlearning.audit import audit_estimator as audit_estimator
    from mlpapers.unlearning.bounds import parameter_gap_bound as parameter_gap_bound
    from mlpapers.unlearning.bounds import residual_bound as residual_bound
    from mlpapers.unlearning.certificate import Certificate as Certificate
    from mlpapers.unlearning.classifier import DVWUClassifier as DVWUClassifier
    from mlpapers.unlearning.evaluation import UnlearningReport as UnlearningReport
    from mlpapers.unlearning.evaluation import evaluate_unlearning as evaluate_unlearning
    from mlpapers.unlearning.evaluation import membership_inference_auc as membership_inference_auc
    from mlpapers.unlearning.evaluation import relearn_steps as relearn_steps
    from mlpapers.unlearning.log import DeletionLog as DeletionLog
    from mlpapers.unlearning.log import LogCorruptionError as LogCorruptionError
    from mlpapers.unlearning.log import LogReport as LogReport
    from mlpapers.unlearning.losses import LOSS_CONSTANTS as LOSS_CONSTANTS
    from mlpapers.unlearning.mechanism import gaussian_mechanism_delta as gaussian_mechanism_delta
    from mlpapers.unlearning.mechanism import gaussian_mechanism_epsilon as gaussian_mechanism_epsilon
    from mlpapers.unlearning.mechanism import gaussian_mechanism_ratio as gaussian_mechanism_ratio
    from mlpapers.unlearning.regressor import DVWURegressor as DVWURegressor
    from mlpapers.unlearning.replay import recover as recover
    from mlpapers.unlearning.replay import replay as replay
    from mlpapers.unlearning.result import UnlearningResult as UnlearningResult
    from mlpapers.unlearning.values import knn_shapley_values as knn_shapley_values
    from mlpapers.unlearning.values import register_value_function as register_value_function
    from mlpapers.unlearning.weights import value_weights as value_weights

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "AuditResult": "audit",
        "Certificate": "certificate",
        "DVWUClassifier": "classifier",
        "DVWURegressor": "regressor",
        "DeletionLog": "log",
        "GradientAscentResult": "ascent",
        "GradientAscentUnlearner": "ascent",
        "LOSS_CONSTANTS": "losses",
        "LogCorruptionError": "log",
        "LogReport": "log",
        "UnlearningReport": "evaluation",
        "UnlearningResult": "result",
        "audit_epsilon": "audit",
        "audit_estimator": "audit",
        "evaluate_unlearning": "evaluation",
        "gaussian_mechanism_delta": "mechanism",
        "gaussian_mechanism_epsilon": "mechanism",
        "gaussian_mechanism_ratio": "mechanism",
        "knn_shapley_values": "values",
        "load_unlearning_data": "mlpapers.datasets",
        "membership_inference_auc": "evaluation",
        "parameter_gap_bound": "bounds",
        "recover": "replay",
        "register_value_function": "values",
        "relearn_steps": "evaluation",
        "replay": "replay",
        "residual_bound": "bounds",
        "value_weights": "weights",
    },
)
