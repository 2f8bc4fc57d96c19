"""Inverse temperatures per token and head: what the token says, and how many keys it sees."""

from __future__ import annotations

import math

import torch
from torch import nn

from mlpapers.attention._checks import (
    check_at_least,
    check_floating,
    check_rows,
    check_shape,
    check_tensor,
    compute_dtype,
)
from mlpapers.attention._fold import fold, scale_rows, token_part
from mlpapers.core.validation import check_bool, check_choice, check_int, check_real

__all__ = ["TemperatureModule", "position_temperature", "token_temperature"]

TOKEN_KINDS = ("shared", "shared_all", "mlp", "feature", "none")
POSITION_KINDS = ("linear", "sigmoid", "gompertz", "ssmax", "yarn", "none")
# The initial alpha of each kind: "linear" is the identity; "gompertz" nearly so (c = 6e-4).
ALPHA_INIT = {"linear": 0.0, "sigmoid": 0.0, "gompertz": 2.0, "ssmax": 0.43, "yarn": 1.0}
# Kinds that are 1 at their initial alpha, to the last bit.
IDENTITY_KINDS = ("linear", "yarn", "none")


def token_temperature(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    r"""Token-aware part of the temperature, from a projection that is there already.

    .. math:: \tau^{tok}_h(x) = \tanh\bigl(\langle w_h, \mathrm{GELU}(x_h) \rangle + b_h\bigr)

    Parameters
    ----------
    x : tensor of shape (B, H, T, d)
        Projection (of query or value) of each head, before any rotation.
    weight : tensor of shape (H, d)
    bias : tensor of shape (H,), optional

    Returns
    -------
    tau : tensor of shape (B, H, T), float32 (float64 for float64 inputs), in (-1, 1)

    Raises
    ------
    TypeError
        If an argument is not a tensor.
    ValueError
        For wrong shapes, or a dtype that is not floating.

    References
    ----------
    [1] Zhang et al., "Selective Attention: Enhancing Transformer through Principled Context Control",
    NeurIPS 2024, section 3 (weight sharing).

    Examples
    --------
    >>> import torch
    >>> from mlpapers.attention import token_temperature
    >>> x = torch.tensor([0.0, 1.0]).reshape(1, 1, 2, 1)
    >>> token_temperature(x, weight=torch.ones(1, 1)).round(decimals=2)
    tensor([[[0.0000, 0.6900]]])
    """
    check_floating("x", x, ndim=4)
    check_floating("weight", weight, ndim=2)
    if tuple(weight.shape) != (x.shape[1], x.shape[3]):
        raise ValueError(
            f"weight must have shape (H, d) = {(x.shape[1], x.shape[3])} for x of shape {tuple(x.shape)}; "
            f"got {tuple(weight.shape)}"
        )
    if bias is not None:
        check_floating("bias", bias, ndim=1)
        check_shape("bias", bias, (x.shape[1],))
        bias = bias[:, None]
    return token_part(x, weight[:, None, :], bias)


def position_temperature(n: torch.Tensor, alpha: torch.Tensor | float, kind: str = "linear") -> torch.Tensor:
    r"""Position-aware part of the temperature.

    .. math:: \tau^{pos}(n) = 1 + c(\alpha) \log n

    with c = :math:`\alpha` ("linear"), :math:`\sigma(\alpha)` ("sigmoid", the paper's),
    :math:`e^{-e^\alpha}` ("gompertz", the authors' code), 0 ("none"). Two kinds of others are there to
    compare: "ssmax" is :math:`\alpha \log n` (scalable softmax), "yarn" the constant :math:`(1 + 0.1 \log
    \alpha)^2` for a context :math:`\alpha` times longer than that of training.

    Parameters
    ----------
    n : tensor of shape (T,) or (B, T)
        Number of the token in its sequence, from 1: the keys it sees.
    alpha : float, or tensor of shape () or (H,)
    kind : {"linear", "sigmoid", "gompertz", "ssmax", "yarn", "none"}

    Returns
    -------
    tau : tensor of shape (H, T), (B, H, T), or that of `n` where alpha is a scalar
        float32, or float64 where `n` or `alpha` is.

    Raises
    ------
    TypeError
        If `n` is not a tensor.
    ValueError
        If an n is below 1, `kind` is unknown, a shape is wrong, or the alpha of "yarn" is not positive.

    References
    ----------
    [1] Zhang et al., "Selective Attention", NeurIPS 2024, section 3; the logarithm follows from Proposition
    2.

    Examples
    --------
    >>> import torch
    >>> from mlpapers.attention import position_temperature
    >>> n = torch.tensor([1, 100, 10_000])
    >>> position_temperature(n, 0.5).round(decimals=2)
    tensor([1.0000, 3.3000, 5.6100])
    >>> position_temperature(n, 0.5, kind="ssmax").round(decimals=2)
    tensor([0.0000, 2.3000, 4.6100])
    """
    check_tensor("n", n, ndim=(1, 2))
    check_choice("kind", kind, POSITION_KINDS)
    check_at_least("n", n, 1)
    double = n.dtype == torch.float64 or (isinstance(alpha, torch.Tensor) and alpha.dtype == torch.float64)
    dtype = torch.float64 if double else torch.float32
    if not isinstance(alpha, torch.Tensor):
        check_real("alpha", alpha)
    alpha = torch.as_tensor(alpha, dtype=dtype, device=n.device)
    if kind == "yarn" and not torch.compiler.is_compiling() and not bool((alpha > 0).all()):
        raise ValueError("alpha must be positive with kind='yarn': it is a ratio of lengths")
    if alpha.ndim > 1:
        raise ValueError(f"alpha must be a scalar or have shape (H,); got shape {tuple(alpha.shape)}")
    n = n.to(dtype)
    if alpha.ndim == 0:
        return _position_part(torch.log(n), alpha, kind)
    return _position_part(torch.log(n).unsqueeze(-2), alpha[:, None], kind)


def position_coefficient(alpha: torch.Tensor, kind: str) -> torch.Tensor:
    """Return c(alpha), the factor of log n."""
    if kind in ("linear", "ssmax"):
        return alpha
    if kind == "sigmoid":
        return torch.sigmoid(alpha)
    if kind == "gompertz":
        return torch.exp(-torch.exp(alpha))
    return torch.zeros_like(alpha)


def _position_part(log_n: torch.Tensor, alpha: torch.Tensor, kind: str) -> torch.Tensor:
    if kind == "none":
        return torch.ones_like(log_n + alpha)
    if kind == "yarn":
        return ((1.0 + 0.1 * torch.log(alpha)) ** 2).expand_as(log_n + alpha)
    scaled = position_coefficient(alpha, kind) * log_n
    return scaled if kind == "ssmax" else 1.0 + scaled


class TemperatureModule(nn.Module):
    r"""Inverse temperatures :math:`\tau = \tanh f(x) + \tau^{pos}(n)` of a set of heads.

    A large temperature makes attention spiky, a small one flat; negative ones are allowed, and nothing is
    clamped. All weights start at 0, so that with the default position kind the temperature starts at exactly
    1 and yet has a gradient.

    Parameters
    ----------
    num_heads : int
    head_dim : int
    token : {"shared", "shared_all", "mlp", "feature", "none"}, default="shared"
        f: "shared" is <w_h, GELU(x_h)> of each head's own projection; "shared_all" one w over the
        concatenated heads, one temperature for all; "mlp" W2 GELU(W1 h) of the layer's input h; "feature" a
        scalar w_h times a feature of the token (its log frequency, say).
    position : {"linear", "sigmoid", "gompertz", "ssmax", "yarn", "none"}, default="linear"
        See :func:`position_temperature`. The alpha of "yarn" is a constant, not trained.
    alpha_init : float, optional
        Default: 0 ("linear", "sigmoid"), 2 ("gompertz"), 0.43 ("ssmax"), 1 ("yarn"). To fine-tune with
        "sigmoid" take -6: at 0 it multiplies logits by 1 + log(n)/2, which destroys a trained model.
    alpha_per : {"head", "layer"}, default="head"
    bias : bool, default=False
        One more scalar per head, inside the tanh.
    input_dim, hidden_dim : int, optional
        For "mlp": width of the layer's input and of the hidden layer (default: a quarter of it).

    Attributes
    ----------
    weight : Parameter
        Shape (H, d) for "shared" and "shared_all", (H, hidden) for "mlp", (H,) for "feature"; absent for
        "none".
    hidden_weight : Parameter of shape (hidden, input_dim)
        For "mlp".
    alpha : Parameter of shape (H,) or (); absent for "none", a buffer for "yarn"
    bias : Parameter of shape (H,), or None
    """

    def __init__(
        self,
        num_heads: int,
        head_dim: int,
        *,
        token: str = "shared",
        position: str = "linear",
        alpha_init: float | None = None,
        alpha_per: str = "head",
        bias: bool = False,
        input_dim: int | None = None,
        hidden_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.num_heads = check_int("num_heads", num_heads, minimum=1)
        self.head_dim = check_int("head_dim", head_dim, minimum=1)
        self.token = check_choice("token", token, TOKEN_KINDS)
        self.position = check_choice("position", position, POSITION_KINDS)
        check_choice("alpha_per", alpha_per, ("head", "layer"))
        check_bool("bias", bias)
        self.weight: nn.Parameter | None
        self._make_weights(input_dim, hidden_dim)
        if bias and token == "none":
            raise ValueError(
                "bias must be False with token='none': it stands inside the tanh of the token's part"
            )
        self.bias = nn.Parameter(torch.zeros(num_heads)) if bias else None
        if position != "none":
            value = ALPHA_INIT[position] if alpha_init is None else check_real("alpha_init", alpha_init)
            if position == "yarn":
                check_real("alpha_init", value, low=0.0, closed="neither")
            alpha = torch.full((num_heads,) if alpha_per == "head" else (), value)
            if position == "yarn":
                self.register_buffer("alpha", alpha)
            else:
                self.alpha = nn.Parameter(alpha)
        elif alpha_init is not None:
            raise ValueError("alpha_init must be None with position='none', which has no alpha")

    def _make_weights(self, input_dim: int | None, hidden_dim: int | None) -> None:
        if self.token != "mlp" and hidden_dim is not None:
            raise ValueError(f"hidden_dim must be None with token={self.token!r}, which has no hidden layer")
        if self.token == "mlp":
            if input_dim is None:
                raise ValueError("input_dim must be given with token='mlp': the width of the layer's input")
            check_int("input_dim", input_dim, minimum=1)
            width = (
                max(1, input_dim // 4)
                if hidden_dim is None
                else check_int("hidden_dim", hidden_dim, minimum=1)
            )
            self.hidden_weight = nn.Parameter(torch.empty(width, input_dim))
            nn.init.kaiming_uniform_(self.hidden_weight, a=math.sqrt(5))
            self.weight = nn.Parameter(torch.zeros(self.num_heads, width))
        elif self.token == "feature":
            self.weight = nn.Parameter(torch.zeros(self.num_heads))
        elif self.token != "none":
            self.weight = nn.Parameter(torch.zeros(self.num_heads, self.head_dim))

    def forward(
        self,
        x: torch.Tensor,
        n: torch.Tensor,
        hidden: torch.Tensor | None = None,
        feature: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the temperatures.

        Parameters
        ----------
        x : tensor of shape (B, H, T, d)
            The projection, before any rotation.
        n : tensor of shape (T,) or (B, T)
            Number of each token, from 1.
        hidden : tensor of shape (B, T, input_dim), optional
            The layer's input; for "mlp".
        feature : tensor of shape (B, T), optional
            For "feature".

        Returns
        -------
        tau : tensor of shape (B, H, T), float32 (float64 for float64 inputs)

        Raises
        ------
        ValueError
            For wrong shapes, an n below 1, or a missing `hidden` or `feature`.
        """
        self._check(x)
        check_tensor("n", n, ndim=(1, 2))
        check_at_least("n", n, 1)
        base = self._base(x, n, hidden, feature)
        if self.token == "shared":
            assert self.weight is not None
            base = base + token_part(
                x, self.weight[:, None, :], None if self.bias is None else self.bias[:, None]
            )
        return base.expand(x.shape[0], self.num_heads, x.shape[2])

    def scale(
        self,
        x: torch.Tensor,
        n: torch.Tensor,
        *,
        features: torch.Tensor | None = None,
        hidden: torch.Tensor | None = None,
        feature: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return x times its temperatures, fused; other arguments as in :meth:`forward`.

        Parameters
        ----------
        x : tensor of shape (B, H, T, d)
            What is scaled.
        n : tensor of shape (T,) or (B, T)
        features : tensor of shape (B, H, T, d), optional
            The raw projection, where `x` is not it (a normalised one, say).
        hidden : tensor of shape (B, T, input_dim), optional
        feature : tensor of shape (B, T), optional

        Returns
        -------
        y : tensor of shape (B, H, T, d), in x's dtype
        """
        raw = x if features is None else features
        base = self._base(raw, n, hidden, feature)
        if self.token != "shared":
            return scale_rows(x, base)
        assert self.weight is not None
        bias = None if self.bias is None else self.bias[:, None]
        return fold(x, base, features=features, weight=self.weight[:, None, :], bias=bias)

    def coefficient(self) -> torch.Tensor:
        """Return c(alpha), the factor of log n: shape (H,) or (); 0 for "yarn" and "none"."""
        if self.position == "none":
            return torch.zeros(())
        return position_coefficient(self.alpha, self.position)

    def position_part(self, n: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Return what depends on n alone, broadcastable to (B, H, T).

        Parameters
        ----------
        n : tensor of shape (T,) or (B, T)
        dtype : torch.dtype, default=torch.float32

        Returns
        -------
        tau : tensor
        """
        if self.position == "none":
            return torch.ones((1, 1), dtype=dtype, device=n.device)
        log_n = torch.log(n.to(dtype)).unsqueeze(-2)
        return _position_part(log_n, self.alpha.to(dtype).reshape(-1, 1), self.position)

    def _base(
        self, x: torch.Tensor, n: torch.Tensor, hidden: torch.Tensor | None, feature: torch.Tensor | None
    ) -> torch.Tensor:
        """Everything but the "shared" token part, which is fused with the scaling."""
        dtype = compute_dtype(x.dtype)
        rows = (x.shape[0], x.shape[2])
        check_rows("n", n, rows[-n.ndim :])
        base = self.position_part(n, dtype)
        if self.token in ("shared", "none"):
            return base
        assert self.weight is not None
        weight = self.weight.to(dtype)
        if self.token == "shared_all":
            gelu = nn.functional.gelu(x.to(dtype))
            # (B, 1, T): one temperature for all heads.
            u = (gelu * weight[:, None, :]).sum((1, 3)).unsqueeze(1)
        elif self.token == "mlp":
            if hidden is None:
                raise ValueError("hidden must be given with token='mlp': the layer's input (B, T, input_dim)")
            check_floating("hidden", hidden, ndim=3)
            check_rows("hidden", hidden, (*rows, self.hidden_weight.shape[1]))
            # Autocast would round both products to half precision.
            with torch.autocast(x.device.type, enabled=False):
                inner = nn.functional.gelu(hidden.to(dtype) @ self.hidden_weight.to(dtype).T)
                u = (inner @ weight.T).transpose(1, 2)
        else:
            if feature is None:
                raise ValueError("feature must be given with token='feature': one number per token (B, T)")
            check_tensor("feature", feature, ndim=2)
            check_rows("feature", feature, rows)
            u = feature.to(dtype)[:, None, :] * weight[:, None]
        if self.bias is not None:
            u = u + self.bias.to(dtype)[:, None]
        return base + torch.tanh(u)

    def _check(self, x: torch.Tensor) -> None:
        check_floating("x", x, ndim=4)
        if x.shape[1] != self.num_heads or x.shape[3] != self.head_dim:
            raise ValueError(
                f"x must have shape (B, {self.num_heads}, T, {self.head_dim}); got {tuple(x.shape)}"
            )

    def starts_as_identity(self) -> bool:
        """Return whether the temperature is exactly 1 for every input at the present parameters."""
        weights = [self.weight, self.bias] if self.token != "none" else []
        if any(value is not None and bool((value != 0).any()) for value in weights):
            return False
        if self.position == "none":
            return True
        return self.position in IDENTITY_KINDS and bool(
            (self.alpha == (1.0 if self.position == "yarn" else 0.0)).all()
        )

    def extra_repr(self) -> str:
        """Return what ``print`` shows."""
        return f"{self.num_heads}, {self.head_dim}, token={self.token!r}, position={self.position!r}"
