"""Losses printed by the authors of the paper on prompts, and reference values of the closed forms."""

from __future__ import annotations

# (means, noise) -> plain, fine-tuned prompt, joint prompt, fine-tuned prompt and head, both joint; n = 20.
REFERENCE_LOSSES = {
    ((1.4, -0.6), 0.0): (5.64241, 5.50301, 5.01306, 3.89149, 3.54839),
    ((1.4, -0.6), 0.3): (5.74623, 5.60605, 5.11426, 3.99949, 3.65706),
    ((1.0, -1.0), 0.0): (5.96832, 5.81578, 5.21760, 3.97675, 3.54839),
    ((1.0, -1.0), 0.3): (6.07139, 5.91808, 5.31791, 4.08428, 3.65706),
}

# Theory of the setting "mean0_c12" at n = 1, 10, 20, 30, 40, 50, two decimals.
THEORY_CURVES = {
    "plain": (22.26, 12.03, 8.30, 6.37, 5.18, 4.36),
    "finetune_prompt": (17.17, 11.46, 8.11, 6.28, 5.12, 4.33),
    "prompt": (16.02, 10.55, 7.65, 6.01, 4.94, 4.20),
    "prompt+head": (15.58, 8.90, 6.03, 4.56, 3.67, 3.07),
}

# Trained prompts and heads, best of up to 50 runs, at n = 10, 20, 30, 40, 50.
PROMPT_HEAD_LOSSES = {
    "mean0_c11": (5.81, 4.33, 3.07, 2.66, 2.38),
    "mean0_c22": (10.56, 7.39, 5.80, 4.81, 4.18),
    "mean0_c12": (8.98, 6.18, 4.96, 4.11, 3.63),
    "mean0far_c11": (5.82, 4.37, 3.65, 3.22, 2.95),
    "mean-0.4_c11": (5.78, 4.33, 3.48, 2.63, 2.36),
    "mean-0.4_c22": (10.53, 7.36, 5.75, 4.78, 4.14),
    "mean-0.4_c12": (9.78, 6.36, 4.94, 4.14, 3.61),
    "mean-0.4far_c11": (5.80, 4.35, 3.60, 3.16, 2.87),
}
