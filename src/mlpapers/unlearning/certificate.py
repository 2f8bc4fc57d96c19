"""What a certificate says, and what it rests on."""

from __future__ import annotations

from dataclasses import dataclass

from mlpapers.unlearning._account import Account
from mlpapers.unlearning._settings import Settings

__all__ = ["Certificate"]

_REFERENCES = {
    "weights_independent": "training to convergence on the retained rows, from scratch",
    "weights_frozen": "training to convergence on the retained rows with the weights that they have now",
    "weights_recomputed": "the whole pipeline on the retained rows: values, weights, training to convergence",
}


@dataclass(frozen=True)
class Certificate:
    r"""(epsilon, delta)-certified unlearning: what was published cannot be told from the reference.

    For every set T of outcomes and both orders of the two distributions,
    :math:`P(M \in T) \le e^\varepsilon P(A(D \setminus U) \in T) + \delta`, with M what was published after
    the removals and A the reference.

    Attributes
    ----------
    epsilon, delta : float
        What was asked for.
    epsilon_spent : float
        The smallest epsilon that the bounds prove at this delta; infinite where nothing is proved.
    perturbation : {"objective", "output", "none"}
    accounting : {"gaussian", "strict"}
    scope : {"weights_independent", "weights_frozen", "weights_recomputed"}
        Which dependence of the weights on removed rows is covered.
    reference : str
        What the model is compared with, in words.
    assumptions : tuple of str
        What has to be true besides.
    valid : bool
        Whether the certificate holds under its assumptions.
    """

    epsilon: float
    delta: float
    epsilon_spent: float
    perturbation: str
    accounting: str
    scope: str
    reference: str
    assumptions: tuple[str, ...]
    valid: bool


def find_scope(settings: Settings, *, has_values: bool, from_function: bool) -> str:
    """Return the scope of a certificate.

    Weights are independent of other rows where there are none (no values, uniform, role "forget", whose
    reference is unweighted), or where the values are public and a callable turns each into a weight by
    itself; ranks, means and extremes tie every row to all others.
    """
    if not has_values or settings.weighting == "uniform" or settings.weight_role == "forget":
        return "weights_independent"
    if settings.weight_role == "retain":
        return "weights_recomputed" if from_function else "weights_frozen"
    if settings.value_update == "recompute":
        return "weights_recomputed"
    if settings.values_public and callable(settings.weighting):
        return "weights_independent"
    return "weights_frozen"


def make_certificate(settings: Settings, account: Account, scope: str, *, valid: bool) -> Certificate:
    """Return the Certificate of the present model."""
    return Certificate(
        epsilon=settings.epsilon,
        delta=settings.delta,
        epsilon_spent=account.epsilon_spent,
        perturbation=settings.perturbation,
        accounting=settings.accounting,
        scope=scope,
        reference=_REFERENCES[scope],
        assumptions=tuple(_assumptions(settings, scope)),
        valid=valid,
    )


def _assumptions(settings: Settings, scope: str) -> list[str]:
    texts = [
        "the reference is the exact minimiser; arithmetic is float64 and its rounding is not covered",
        "requests do not depend on what was published before",
        "preprocessing is public, or was fitted on the retained rows only",
    ]
    if settings.perturbation == "none":
        return ["without noise only exact removals are certified", *texts]
    texts.append("noise_scale, epsilon and delta were fixed before the data were seen")
    texts.append("the random state, the parameters before noise, residuals and values stay secret")
    if settings.perturbation == "objective":
        texts.append("one release per model: two releases with the same noise vector differ without noise")
        if settings.strict:
            texts.append("the decision to re-anchor does not depend on b")
        else:
            texts.append("the direction of the residual is independent of the noise vector b")
    else:
        texts.append("the certificate is per release: every release has its own noise and its own epsilon")
    if scope == "weights_frozen":
        texts.append("weights of retained rows are taken as given, though removed rows may have shaped them")
    elif scope == "weights_recomputed":
        texts.append("the validation rows behind the values are not to be forgotten")
    elif settings.values_public:
        texts.append("the rule that turns a row into its weight is public and looks at that row alone")
    return texts
