"""Next nodes of a random walk: queries that need flat and sharp attention at the same time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mlpapers.core._axes import new_axes
from mlpapers.core.result import Result
from mlpapers.core.validation import check_choice, check_int, check_real, check_rng

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["GraphTaskResult", "graph_next_token"]

Array = NDArray[np.float64]

# Trees and stars of eight nodes; every node is its own neighbour besides.
GRAPHS = {
    "star": [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (0, 6), (0, 7), (1, 2)],
    "tree": [(0, 1), (0, 2), (1, 3), (1, 4), (2, 5), (2, 6), (3, 7)],
}
_N_NODES = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class GraphTaskResult(Result):
    """A walk's transition matrix, learned by attention.

    Attributes
    ----------
    method : str
    graph : str
    target, prediction : ndarray of shape (8, 8)
        Transition probabilities, true and learned.
    divergence : ndarray of shape (n_steps + 1,)
        Mean Kullback-Leibler divergence of the rows before each step and at the end, in nats.
    degrees : ndarray of shape (8,)
        Neighbours of each node, itself included.
    tau : ndarray of shape (8,)
        Temperature of each node's query; 1 for "vanilla".
    norm : float
        Spectral norm of W.
    err_map : float
        Mean absolute row sum of prediction - target.
    """

    method: str
    graph: str
    target: Array
    prediction: Array
    divergence: Array
    degrees: NDArray[np.int64]
    tau: Array
    norm: float
    err_map: float

    def to_frame(self) -> pd.DataFrame:
        """Return one row per node: degree, temperature, L1 error.

        Returns
        -------
        pandas.DataFrame
        """
        errors = np.abs(self.prediction - self.target).sum(1)
        return pd.DataFrame(
            {"node": np.arange(_N_NODES), "degree": self.degrees, "tau": self.tau, "error": errors}
        )

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the divergence against the steps.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        **options
            Passed to ``Axes.plot``.

        Returns
        -------
        matplotlib Axes
        """
        ax = new_axes(ax)
        ax.plot(self.divergence, **{"label": self.method, **options})
        ax.set(xlabel="step", ylabel="divergence (nats)", yscale="log")
        ax.legend()
        return ax


def graph_next_token(
    graph: str = "star",
    dim: int = 6,
    method: str = "ssa",
    n_steps: int = 2000,
    lr: float = 1e-2,
    random_state: Any = None,
) -> GraphTaskResult:
    r"""Learn a graph's transition probabilities with one attention map.

    Nodes are fixed random unit vectors E; :math:`\hat P = S(\tau(\deg) \odot E W E^\top)` is trained by Adam
    on the mean cross-entropy to P, whose rows are uniform over a node and its neighbours. "ssa" has one
    temperature per distinct degree, all 1 at the start.

    Parameters
    ----------
    graph : {"star", "tree"}, default="star"
    dim : int, default=6
        Below the 8 nodes, so that W alone cannot give every node its own logits.
    method : {"ssa", "vanilla"}, default="ssa"
    n_steps : int, default=2000
    lr : float, default=1e-2
    random_state : int, RandomState, Generator or None, default=None

    Returns
    -------
    GraphTaskResult

    References
    ----------
    [1] Zhang et al., "Selective Attention", NeurIPS 2024, section 4.1; the graphs are ours.

    Examples
    --------
    >>> from mlpapers.attention import graph_next_token
    >>> plain, selective = (
    ...     graph_next_token(method=method, n_steps=100, random_state=0) for method in ("vanilla", "ssa")
    ... )
    >>> selective.err_map < plain.err_map
    True
    """
    check_choice("graph", graph, tuple(GRAPHS))
    check_choice("method", method, ("ssa", "vanilla"))
    check_int("dim", dim, minimum=1)
    check_int("n_steps", n_steps, minimum=0)
    check_real("lr", lr, low=0.0, closed="neither")
    rng = check_rng(random_state)
    adjacency = np.eye(_N_NODES)
    for i, j in GRAPHS[graph]:
        adjacency[i, j] = adjacency[j, i] = 1.0
    degrees = adjacency.sum(1).astype(np.int64)
    target = torch.tensor(adjacency / adjacency.sum(1, keepdims=True))
    nodes = rng.normal(size=(_N_NODES, dim))
    E = torch.tensor(nodes / np.linalg.norm(nodes, axis=1, keepdims=True))
    W = torch.tensor(np.eye(dim) + 0.01 * rng.normal(size=(dim, dim)), requires_grad=True)
    distinct, group = np.unique(degrees, return_inverse=True)
    tau = torch.ones(len(distinct), dtype=torch.float64, requires_grad=method == "ssa")
    of_node = torch.tensor(group)
    entropy = -torch.where(target > 0, target * torch.log(target.clamp_min(1e-300)), 0.0).sum(1).mean()
    optimizer = torch.optim.Adam([W, tau] if method == "ssa" else [W], lr=lr)
    divergence = []

    def log_map() -> torch.Tensor:
        return torch.log_softmax(tau[of_node, None] * (E @ W @ E.T), 1)

    for _ in range(n_steps):
        loss = -(target * log_map()).sum(1).mean() - entropy
        divergence.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        final = log_map()
        divergence.append(float(-(target * final).sum(1).mean() - entropy))
    prediction = final.exp().numpy()
    return GraphTaskResult(
        method=method,
        graph=graph,
        target=target.numpy(),
        prediction=prediction,
        divergence=np.array(divergence),
        degrees=degrees,
        tau=tau.detach()[of_node].numpy(),
        norm=float(torch.linalg.matrix_norm(W.detach(), 2)),
        err_map=float(np.abs(prediction - target.numpy()).sum(1).mean()),
    )
