"""A stack of linear attention layers reduced to its gains."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlpapers.core.validation import check_bool, check_int
from mlpapers.icl._arrays import check_prompts

__all__ = ["PolynomialAttention"]


class PolynomialAttention(nn.Module):
    r"""f = c x' A(X'X/n) X'y/n with the polynomial of L layers and nothing but its gains to learn.

    See :func:`attention_polynomial` for A.

    Parameters
    ----------
    n_layers : int
        L.
    looped : bool, default=False
        Share one pair of gains between all layers.
    label : bool, default=True
        Learn label gains b_l; 0 otherwise.
    feature : bool, default=True
        Learn feature gains a_l; 0 otherwise.

    Notes
    -----
    Gains start at a = 0.1 and b = -0.3, divided by L - 1 where they are looped: X'X/n to a high power
    explodes.

    Examples
    --------
    >>> import torch
    >>> from mlpapers.icl import PolynomialAttention
    >>> model = PolynomialAttention(n_layers=3)
    >>> [name for name, _ in model.named_parameters()]
    ['a', 'b', 'c']
    >>> model.polynomial(torch.tensor([0.0])).tolist()
    [1.0]
    """

    def __init__(
        self, n_layers: int, *, looped: bool = False, label: bool = True, feature: bool = True
    ) -> None:
        super().__init__()
        self.n_layers = check_int("n_layers", n_layers, minimum=1)
        self.looped = check_bool("looped", looped)
        self.label, self.feature = check_bool("label", label), check_bool("feature", feature)
        n_gains = min(1, n_layers - 1) if looped else n_layers - 1
        self.a = nn.Parameter(torch.empty(n_gains, dtype=torch.float64), requires_grad=feature)
        self.b = nn.Parameter(torch.empty(n_gains, dtype=torch.float64), requires_grad=label)
        self.c = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the gains to their start."""
        shrink = max(1, self.n_layers - 1) if self.looped else 1
        with torch.no_grad():
            self.a.fill_(0.1 / shrink if self.feature else 0.0)
            self.b.fill_(-0.3 / shrink if self.label else 0.0)
            self.c.fill_(1.0)

    def gains(self) -> tuple[list[float], list[float], float]:
        """Return (a, b, c), with L - 1 feature gains and label gains also where they are shared.

        Returns
        -------
        a, b : lists of float
        c : float
        """
        a, b = self._expanded()
        return a.tolist(), b.tolist(), float(self.c.detach())

    def polynomial(self, t: Tensor) -> Tensor:
        """Return c A(t) at points of any shape, by its factors.

        Parameters
        ----------
        t : tensor
            Eigenvalues of X'X/n.

        Returns
        -------
        values : tensor of the shape of `t`
        """
        q, r = torch.ones_like(t), torch.ones_like(t)
        for gain_x, gain_y in zip(*self._expanded()):
            step = t * q * q
            r = r * (1.0 + gain_y * step)
            q = q * (1.0 + gain_x * step)
        return self.c * q * q * r

    def forward(self, X: Tensor, y: Tensor, x_query: Tensor) -> Tensor:
        """Return f of shape (B,) for X (B, n, d), y (B, n) with 0 = missing, x_query (B, d)."""
        check_prompts(X, y, x_query)
        n = X.shape[1]
        x, rows = x_query[:, :, None], X
        for gain_x, gain_y in zip(*self._expanded()):
            gram = rows.transpose(1, 2) @ rows / n
            y = y + gain_y * (rows @ (rows.transpose(1, 2) @ y[..., None])).squeeze(-1) / n
            x = x + gain_x * gram @ x
            rows = rows + gain_x * rows @ gram
        estimate = rows.transpose(1, 2) @ y[..., None] / n
        return self.c * (x * estimate).sum((1, 2))

    def _expanded(self) -> tuple[Tensor, Tensor]:
        if not self.looped:
            return self.a, self.b
        return self.a.expand(self.n_layers - 1), self.b.expand(self.n_layers - 1)
