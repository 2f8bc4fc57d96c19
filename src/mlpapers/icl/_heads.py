"""The best heads without prompts: no closed form, so L-BFGS on the loss after the best W."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from mlpapers.icl.mixture import TaskMixture

__all__ = ["best_heads"]

Array = NDArray[np.float64]


def best_heads(
    mixture: TaskMixture, n: int, *, shared: bool, n_starts: int = 4
) -> tuple[Array, Array, float]:
    r"""Return W (d, d), heads (K, d) and the smallest loss found from zero, minus the means and random heads.

    For given heads the loss is quadratic in W, with minimum at :math:`W = T' S G^{-1}`,
    :math:`T = \sum_k \pi_k (M_k + h_k \mu_k')`, G the mean of :math:`G_k / n`.
    """
    K, d = mixture.means.shape
    mu, C, S, pi, s2 = (
        torch.from_numpy(np.array(value))
        for value in (
            mixture.means,
            mixture.covariances,
            mixture.input_cov,
            mixture.weights,
            mixture.noise**2,
        )
    )
    M = torch.from_numpy(mixture.M)

    def profile(free: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        h = free.expand(K, d)
        r = mu + h
        N = C + r[:, :, None] * r[:, None, :]
        T = M + torch.einsum("k,ki,kj->ij", pi, h, mu)
        noise = (pi * (torch.einsum("ij,kji->k", S, N) + s2)).sum()
        G = noise * S + (n + 1) * S @ torch.einsum("k,kij->ij", pi, N) @ S
        W = (torch.linalg.pinv(G, hermitian=True) @ S @ T).T
        loss = (pi * s2).sum() + (S * M).sum() - n * torch.trace(S @ W @ S @ T)
        return loss, W, h

    rng = np.random.default_rng(0)
    means = mixture.weights @ mixture.means if shared else mixture.means
    starts = [np.zeros((1, d)) if shared else np.zeros((K, d)), -np.atleast_2d(means)]
    scale = float(np.abs(mixture.means).max()) or 1.0
    starts += [scale * rng.standard_normal(starts[0].shape) for _ in range(n_starts - 2)]
    best: tuple[Array, Array, float] | None = None
    for start in starts:
        free = torch.from_numpy(start.copy()).requires_grad_()
        optimiser = torch.optim.LBFGS(
            [free], max_iter=500, history_size=20, tolerance_grad=1e-10, tolerance_change=1e-14,
            line_search_fn="strong_wolfe",
        )  # fmt: skip

        def closure() -> float:
            optimiser.zero_grad()  # noqa: B023 - called before the loop goes on
            loss = profile(free)[0]  # noqa: B023
            loss.backward()
            return float(loss.detach())

        optimiser.step(closure)
        with torch.no_grad():
            loss, W, h = profile(free)
        if best is None or float(loss) < best[2]:
            best = (W.numpy(), h.detach().numpy().copy(), float(loss))
    assert best is not None
    return best
