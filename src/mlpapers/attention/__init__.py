"""Selective Self-Attention: temperatures that give every query and every value its own spikiness.

``selective_attention`` folds them into query and value in front of torch's fused kernels;
``SelectiveSelfAttention`` and ``SelectiveTransformerLM`` are a layer and a small language model with them;
``convert_to_ssa`` gives them to a Hugging Face model in place, at first without changing a bit of its
outputs. Around them: fine-tuning and checkpoints of the temperatures alone, ``attention_health`` and the
measures behind it, the theory in closed form, and the tasks that show what temperatures are good for.
"""

from typing import TYPE_CHECKING

from mlpapers.core._lazy import attach

if TYPE_CHECKING:
    from mlpapers.attention.cache import KVCache as KVCache
    from mlpapers.attention.checkpoint import load_ssa as load_ssa
    from mlpapers.attention.checkpoint import load_ssa_state_dict as load_ssa_state_dict
    from mlpapers.attention.checkpoint import merge_constant_temperatures as merge_constant_temperatures
    from mlpapers.attention.checkpoint import save_ssa as save_ssa
    from mlpapers.attention.checkpoint import ssa_state_dict as ssa_state_dict
    from mlpapers.attention.conversion import ConversionResult as ConversionResult
    from mlpapers.attention.conversion import convert_to_ssa as convert_to_ssa
    from mlpapers.attention.conversion import count_parameters as count_parameters
    from mlpapers.attention.conversion import revert_ssa as revert_ssa
    from mlpapers.attention.conversion import ssa_parameters as ssa_parameters
    from mlpapers.attention.denoising import DenoisingResult as DenoisingResult
    from mlpapers.attention.denoising import denoising as denoising
    from mlpapers.attention.diagnostics import attention_entropy as attention_entropy
    from mlpapers.attention.diagnostics import spikiness as spikiness
    from mlpapers.attention.diagnostics import top_k_mass as top_k_mass
    from mlpapers.attention.dilution import DilutionResult as DilutionResult
    from mlpapers.attention.dilution import dilution as dilution
    from mlpapers.attention.finetune import FineTuneResult as FineTuneResult
    from mlpapers.attention.finetune import finetune as finetune
    from mlpapers.attention.finetune import perplexity as perplexity
    from mlpapers.attention.finetune import token_log_frequency as token_log_frequency
    from mlpapers.attention.functional import selective_attention as selective_attention
    from mlpapers.attention.graph import GraphTaskResult as GraphTaskResult
    from mlpapers.attention.graph import graph_next_token as graph_next_token
    from mlpapers.attention.health import AttentionHealthResult as AttentionHealthResult
    from mlpapers.attention.health import attention_health as attention_health
    from mlpapers.attention.interface import register_attention as register_attention
    from mlpapers.attention.layer import SelectiveSelfAttention as SelectiveSelfAttention
    from mlpapers.attention.lm import SelectiveTransformerLM as SelectiveTransformerLM
    from mlpapers.attention.passkey import PasskeyResult as PasskeyResult
    from mlpapers.attention.passkey import passkey_prompts as passkey_prompts
    from mlpapers.attention.plots import plot_dilution as plot_dilution
    from mlpapers.attention.plots import plot_temperatures as plot_temperatures
    from mlpapers.attention.recall import RecallResult as RecallResult
    from mlpapers.attention.recall import associative_recall as associative_recall
    from mlpapers.attention.smollm2 import load_smollm2 as load_smollm2
    from mlpapers.attention.statistics import AttentionStats as AttentionStats
    from mlpapers.attention.statistics import attention_statistics as attention_statistics
    from mlpapers.attention.temperature import TemperatureModule as TemperatureModule
    from mlpapers.attention.temperature import position_temperature as position_temperature
    from mlpapers.attention.temperature import token_temperature as token_temperature
    from mlpapers.attention.theory import dilution_bound as dilution_bound
    from mlpapers.attention.theory import lemma2_sparsity as lemma2_sparsity
    from mlpapers.attention.theory import prop2_flat_loss as prop2_flat_loss
    from mlpapers.attention.theory import prop2_temperature as prop2_temperature
    from mlpapers.attention.theory import required_norm as required_norm
    from mlpapers.attention.theory import specificity as specificity
    from mlpapers.attention.theory import specificity_norm_bound as specificity_norm_bound
    from mlpapers.attention.two_token_theory import prop1_lower_bound as prop1_lower_bound
    from mlpapers.attention.two_token_theory import prop1_min_norm as prop1_min_norm
    from mlpapers.attention.two_token_theory import prop1_ssa_solution as prop1_ssa_solution
    from mlpapers.datasets import load_text as load_text

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "AttentionHealthResult": "health",
        "AttentionStats": "statistics",
        "ConversionResult": "conversion",
        "DenoisingResult": "denoising",
        "DilutionResult": "dilution",
        "FineTuneResult": "finetune",
        "GraphTaskResult": "graph",
        "KVCache": "cache",
        "PasskeyResult": "passkey",
        "RecallResult": "recall",
        "SelectiveSelfAttention": "layer",
        "SelectiveTransformerLM": "lm",
        "TemperatureModule": "temperature",
        "associative_recall": "recall",
        "attention_entropy": "diagnostics",
        "attention_health": "health",
        "attention_statistics": "statistics",
        "convert_to_ssa": "conversion",
        "count_parameters": "conversion",
        "denoising": "denoising",
        "dilution": "dilution",
        "dilution_bound": "theory",
        "finetune": "finetune",
        "graph_next_token": "graph",
        "lemma2_sparsity": "theory",
        "load_smollm2": "smollm2",
        "load_ssa": "checkpoint",
        "load_ssa_state_dict": "checkpoint",
        "load_text": "mlpapers.datasets",
        "merge_constant_temperatures": "checkpoint",
        "passkey_prompts": "passkey",
        "perplexity": "finetune",
        "plot_dilution": "plots",
        "plot_temperatures": "plots",
        "position_temperature": "temperature",
        "prop1_lower_bound": "two_token_theory",
        "prop1_min_norm": "two_token_theory",
        "prop1_ssa_solution": "two_token_theory",
        "prop2_flat_loss": "theory",
        "prop2_temperature": "theory",
        "register_attention": "interface",
        "required_norm": "theory",
        "revert_ssa": "conversion",
        "save_ssa": "checkpoint",
        "selective_attention": "functional",
        "specificity": "theory",
        "specificity_norm_bound": "theory",
        "spikiness": "diagnostics",
        "ssa_parameters": "conversion",
        "ssa_state_dict": "checkpoint",
        "token_log_frequency": "finetune",
        "token_temperature": "temperature",
        "top_k_mass": "diagnostics",
    },
)
