"""In-context learning: what unlabelled rows, loops and task-specific prompts add to it.

Two papers share this room. Unlabelled rows help an in-context learner only in depth or in loops: exact losses
and limits of linear attention, the polynomials it expresses, plug-in and expectation-maximisation estimators,
and ``LoopedClassifier``, which loops any classifier or regressor over its own soft labels, by default a small
tabular model whose weights are included. Task-specific prompts take the mean of a task family off the
weights, heads its noise: exact losses and optima of every strategy. Torch is loaded when a module, a training
routine or the tabular model is used, and not before.
"""

from typing import TYPE_CHECKING

from mlpapers.core._lazy import attach

if TYPE_CHECKING:
    from mlpapers.datasets import LOOPTABFM_IDS as LOOPTABFM_IDS
    from mlpapers.datasets import DataUnavailableError as DataUnavailableError
    from mlpapers.datasets import fetch_looptabfm_benchmark as fetch_looptabfm_benchmark
    from mlpapers.icl.adapters import tabicl_adapter as tabicl_adapter
    from mlpapers.icl.adapters import tabpfn_adapter as tabpfn_adapter
    from mlpapers.icl.em import GMMEMClassifier as GMMEMClassifier
    from mlpapers.icl.interpret import AttentionPolynomialResult as AttentionPolynomialResult
    from mlpapers.icl.interpret import interpret_attention as interpret_attention
    from mlpapers.icl.landscape import one_layer_attention_loss as one_layer_attention_loss
    from mlpapers.icl.landscape import one_layer_loss as one_layer_loss
    from mlpapers.icl.landscape import one_layer_optimal_loss as one_layer_optimal_loss
    from mlpapers.icl.landscape import optimal_step_size as optimal_step_size
    from mlpapers.icl.linear_attention import LinearAttention as LinearAttention
    from mlpapers.icl.linear_attention import MultilayerLinearAttention as MultilayerLinearAttention
    from mlpapers.icl.linear_attention import TaskPromptLinearAttention as TaskPromptLinearAttention
    from mlpapers.icl.loop_result import LoopResult as LoopResult
    from mlpapers.icl.looped import LoopedClassifier as LoopedClassifier
    from mlpapers.icl.loss_landscape import LandscapeResult as LandscapeResult
    from mlpapers.icl.loss_landscape import loss_landscape as loss_landscape
    from mlpapers.icl.loss_landscape import plot_landscape as plot_landscape
    from mlpapers.icl.minipfn import MiniPFNClassifier as MiniPFNClassifier
    from mlpapers.icl.mixture import RegressionPrompts as RegressionPrompts
    from mlpapers.icl.mixture import TaskMixture as TaskMixture
    from mlpapers.icl.mixture import paper_settings as paper_settings
    from mlpapers.icl.plugin import SemiSupervisedPlugIn as SemiSupervisedPlugIn
    from mlpapers.icl.plugin import SupervisedPlugIn as SupervisedPlugIn
    from mlpapers.icl.plugin_error import bayes_error_asymptotic as bayes_error_asymptotic
    from mlpapers.icl.plugin_error import infinite_context_error as infinite_context_error
    from mlpapers.icl.plugin_error import label_value as label_value
    from mlpapers.icl.plugin_error import spi_error as spi_error
    from mlpapers.icl.plugin_error import spi_error_random as spi_error_random
    from mlpapers.icl.polynomial import attention_degree as attention_degree
    from mlpapers.icl.polynomial import attention_manifold_dim as attention_manifold_dim
    from mlpapers.icl.polynomial import attention_polynomial as attention_polynomial
    from mlpapers.icl.polynomial import evaluate_attention_polynomial as evaluate_attention_polynomial
    from mlpapers.icl.polynomial import factor_label_polynomial as factor_label_polynomial
    from mlpapers.icl.polynomial import is_label_expressible as is_label_expressible
    from mlpapers.icl.polynomial import jacobian_rank as jacobian_rank
    from mlpapers.icl.polynomial_attention import PolynomialAttention as PolynomialAttention
    from mlpapers.icl.polynomial_classifier import PolynomialClassifier as PolynomialClassifier
    from mlpapers.icl.population import fit_population as fit_population
    from mlpapers.icl.prompt_theory import PromptOptimum as PromptOptimum
    from mlpapers.icl.prompt_theory import optimal_loss as optimal_loss
    from mlpapers.icl.prompt_theory import optimal_weights as optimal_weights
    from mlpapers.icl.prompt_theory import prompt_loss as prompt_loss
    from mlpapers.icl.prompt_theory import strategies as strategies
    from mlpapers.icl.prompts import GMMPrompts as GMMPrompts
    from mlpapers.icl.prompts import make_semisupervised_gmm as make_semisupervised_gmm
    from mlpapers.icl.prompts import sample_gmm_prompts as sample_gmm_prompts
    from mlpapers.icl.train_result import TrainResult as TrainResult
    from mlpapers.icl.training import train_icl as train_icl

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "AttentionPolynomialResult": "interpret",
        "DataUnavailableError": "mlpapers.datasets",
        "GMMEMClassifier": "em",
        "GMMPrompts": "prompts",
        "LOOPTABFM_IDS": "mlpapers.datasets",
        "LandscapeResult": "loss_landscape",
        "LinearAttention": "linear_attention",
        "LoopResult": "loop_result",
        "LoopedClassifier": "looped",
        "MiniPFNClassifier": "minipfn",
        "MultilayerLinearAttention": "linear_attention",
        "PolynomialAttention": "polynomial_attention",
        "PolynomialClassifier": "polynomial_classifier",
        "PromptOptimum": "prompt_theory",
        "RegressionPrompts": "mixture",
        "SemiSupervisedPlugIn": "plugin",
        "SupervisedPlugIn": "plugin",
        "TaskMixture": "mixture",
        "TaskPromptLinearAttention": "linear_attention",
        "TrainResult": "train_result",
        "attention_degree": "polynomial",
        "attention_manifold_dim": "polynomial",
        "attention_polynomial": "polynomial",
        "bayes_error_asymptotic": "plugin_error",
        "evaluate_attention_polynomial": "polynomial",
        "factor_label_polynomial": "polynomial",
        "fetch_looptabfm_benchmark": "mlpapers.datasets",
        "fit_population": "population",
        "infinite_context_error": "plugin_error",
        "interpret_attention": "interpret",
        "is_label_expressible": "polynomial",
        "jacobian_rank": "polynomial",
        "label_value": "plugin_error",
        "loss_landscape": "loss_landscape",
        "make_semisupervised_gmm": "prompts",
        "one_layer_attention_loss": "landscape",
        "one_layer_loss": "landscape",
        "one_layer_optimal_loss": "landscape",
        "optimal_loss": "prompt_theory",
        "optimal_step_size": "landscape",
        "optimal_weights": "prompt_theory",
        "paper_settings": "mixture",
        "plot_landscape": "loss_landscape",
        "prompt_loss": "prompt_theory",
        "sample_gmm_prompts": "prompts",
        "spi_error": "plugin_error",
        "spi_error_random": "plugin_error",
        "strategies": "prompt_theory",
        "tabicl_adapter": "adapters",
        "tabpfn_adapter": "adapters",
        "train_icl": "training",
    },
)
