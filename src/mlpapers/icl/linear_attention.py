"""Linear attention: one layer, stacks of layers, and one layer with a prompt and a head per task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from mlpapers.core.validation import check_bool, check_choice, check_int, check_real
from mlpapers.icl._arrays import check_prompts
from mlpapers.icl.mixture import TaskMixture
from mlpapers.icl.polynomial import attention_polynomial

__all__ = ["LinearAttention", "MultilayerLinearAttention", "TaskPromptLinearAttention"]


class LinearAttention(nn.Module):
    r"""Attention without softmax, att(Z) = (Z Wq) (Z Wk)' M Z Wv, in time linear in the number of rows.

    M keeps the context rows, which come first: nobody attends to the rows behind them. The product is taken
    as Z [Wq Wk' (Zc'Zc) Wv] with Zc the context rows: no T x T matrix appears, and neither queries nor keys
    nor values do.

    Parameters
    ----------
    dim : int
        Width of a row.
    softmax : bool, default=False
        Normalise the scores over the context by a softmax; takes T x n scores.
    normalize : bool, default=True
        Divide by the number of context rows (without effect on softmax).
    bias : bool, default=False
        Add a vector to queries, keys and values.

    Examples
    --------
    >>> import torch
    >>> from mlpapers.icl import LinearAttention
    >>> attention = LinearAttention(dim=3)
    >>> rows = torch.randn(2, 1001, 3, generator=torch.Generator().manual_seed(0))
    >>> tuple(attention(rows, n_context=1000).shape)
    (2, 1001, 3)
    """

    Wq: nn.Parameter
    Wk: nn.Parameter
    Wv: nn.Parameter

    def __init__(
        self, dim: int, *, softmax: bool = False, normalize: bool = True, bias: bool = False
    ) -> None:
        super().__init__()
        self.dim = check_int("dim", dim, minimum=1)
        self.softmax = check_bool("softmax", softmax)
        self.normalize = check_bool("normalize", normalize)
        for name in ("Wq", "Wk", "Wv"):
            self.register_parameter(name, nn.Parameter(torch.empty(dim, dim)))
        self.bias: nn.Parameter | None = (
            nn.Parameter(torch.zeros(3, dim)) if check_bool("bias", bias) else None
        )
        self.reset_parameters()

    def reset_parameters(self, scale: float = 1.0) -> None:
        """Draw the matrices from N(0, scale^2 / dim) and set the biases to zero.

        Parameters
        ----------
        scale : float, default=1.0
        """
        for matrix in (self.Wq, self.Wk, self.Wv):
            nn.init.normal_(matrix, std=scale / math.sqrt(self.dim))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, Z: Tensor, n_context: int) -> Tensor:
        """Return attention (B, T, dim) of rows (B, T, dim), the first `n_context` of which are context."""
        if not 1 <= n_context <= Z.shape[1]:
            raise ValueError(f"n_context must lie in [1, {Z.shape[1]}], the rows of Z; got {n_context}")
        return self.attend(Z, Z[:, :n_context])

    def attend(self, rows: Tensor, context: Tensor) -> Tensor:
        """Return attention of some rows to given context rows.

        Parameters
        ----------
        rows : Tensor of shape (B, T, dim)
        context : Tensor of shape (B, n, dim)

        Returns
        -------
        attended : Tensor of shape (B, T, dim)
        """
        if self.softmax:
            query, key, value = rows @ self.Wq, context @ self.Wk, context @ self.Wv
            if self.bias is not None:
                query, key, value = query + self.bias[0], key + self.bias[1], value + self.bias[2]
            return torch.softmax(query @ key.transpose(1, 2), dim=-1) @ value
        mixed = self.Wk.T @ (context.transpose(1, 2) @ context) @ self.Wv  # (B, dim, dim)
        n_context = context.shape[1]
        if self.bias is not None:
            total, bias_k, bias_v = context.sum(1), self.bias[1], self.bias[2]
            keys, values = total @ self.Wk + n_context * bias_k, total @ self.Wv
            mixed = mixed + keys[:, :, None] * bias_v + bias_k[:, None] * values[:, None, :]
        if self.normalize:
            mixed = mixed / n_context
        attended = rows @ (self.Wq @ mixed)
        return attended if self.bias is None else attended + (self.bias[0] @ mixed)[:, None]


class MultilayerLinearAttention(nn.Module):
    """A stack of attention layers that reads labelled and unlabelled rows and answers a query.

    Rows are (x_i, y_i) with y_i = 0 where the label is missing, and (x, 0) for the query. Z <- Z + att(Z) in
    all layers but the last; the answer is the last attention output at the query row times a head.

    Parameters
    ----------
    n_features : int
        d.
    n_layers : int, default=1
        L.
    looped : bool, default=False
        Use one set of matrices L times.
    softmax : bool, default=False
    normalize : bool, default=True
        Divide attention by the number of context rows.
    output : {"attention", "residual"}, default="attention"
        "residual" adds the query's row to what the head reads.
    init_scale : float, default=0.3
        Scale of the matrices at the start; deep looped stacks diverge from large ones.

    Examples
    --------
    >>> import torch
    >>> from mlpapers.icl import MultilayerLinearAttention
    >>> model = MultilayerLinearAttention.from_polynomial(a=[0.0], b=[2.0], c=3.0, n_features=2)
    >>> X = torch.eye(2, dtype=torch.float64)[None]
    >>> y = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    >>> model(X, y, X[:, 0]).detach().round(decimals=6)  # 3 (1 + 2 t) y for X'X = I, so t = 1
    tensor([9.], dtype=torch.float64)
    """

    def __init__(
        self,
        n_features: int,
        n_layers: int = 1,
        *,
        looped: bool = False,
        softmax: bool = False,
        normalize: bool = True,
        output: Literal["attention", "residual"] = "attention",
        init_scale: float = 0.3,
    ) -> None:
        super().__init__()
        self.n_features = check_int("n_features", n_features, minimum=1)
        self.n_layers = check_int("n_layers", n_layers, minimum=1)
        self.looped = check_bool("looped", looped)
        self.output = check_choice("output", output, ("attention", "residual"))
        self.init_scale = check_real("init_scale", init_scale, low=0.0, closed="neither")
        self.layers: Sequence[LinearAttention] = nn.ModuleList(  # type: ignore[assignment]
            LinearAttention(n_features + 1, softmax=softmax, normalize=normalize)
            for _ in range(1 if looped else n_layers)
        )
        self.head = nn.Parameter(torch.empty(n_features + 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all matrices and the head anew."""
        for layer in self.layers:
            layer.reset_parameters(self.init_scale * math.sqrt(self.n_features + 1))
        nn.init.normal_(self.head, std=self.init_scale)

    def forward(self, X: Tensor, y: Tensor, x_query: Tensor) -> Tensor:
        """Return f of shape (B,) for X (B, n, d), y (B, n) with 0 = missing, x_query (B, d)."""
        check_prompts(X, y, x_query, self.n_features)
        n = X.shape[1]
        query = torch.cat([x_query, torch.zeros_like(x_query[:, :1])], dim=1)
        Z = torch.cat([torch.cat([X, y[..., None]], dim=2), query[:, None]], dim=1)  # (B, n + 1, d + 1)
        layers = [self.layers[0 if self.looped else number] for number in range(self.n_layers)]
        for layer in layers[:-1]:
            Z = Z + layer(Z, n)
        # Of the last layer nothing but the query is read.
        query = Z[:, n:]
        attended = layers[-1].attend(query, Z[:, :n])
        answer = attended + query if self.output == "residual" else attended
        return answer[:, 0] @ self.head

    def effective_weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return (Wb, w1, h1, h0) of one layer, as :func:`one_layer_attention_loss` takes them.

        With `normalize`, Wb and w1 are those of the normalised prompt: divide them by n for sums.

        Returns
        -------
        Wb, w1, h1, h0 : tensors of shapes (d, d), (d,), (d,), ()

        Raises
        ------
        ValueError
            With more than one layer, softmax, or the residual output.
        """
        layer = self.layers[0]
        if self.n_layers != 1 or layer.softmax or self.output == "residual":
            raise ValueError(
                "effective_weights exist for n_layers=1, softmax=False, output='attention'; "
                f"got n_layers={self.n_layers}, softmax={layer.softmax}, output={self.output!r}"
            )
        d = self.n_features
        scores = (layer.Wq @ layer.Wk.T)[:d]
        value = layer.Wv @ self.head
        return scores[:, :d], scores[:, d], value[:d], value[d]

    @classmethod
    def from_polynomial(
        cls, a: Sequence[float], b: Sequence[float], c: float, n_features: int
    ) -> MultilayerLinearAttention:
        """Build the float64 stack, without normalisation, whose answer is c x' A(X'X) X'y.

        Layer l moves labels by b_l and features by a_l: its scores are X X' and its values (a_l X, b_l y).

        Parameters
        ----------
        a, b : sequences of L - 1 numbers
            Feature gains and label gains.
        c : float
            Weight of the last layer.
        n_features : int

        Returns
        -------
        model : MultilayerLinearAttention of L layers

        Raises
        ------
        ValueError
            Where `a` and `b` differ in length.
        """
        if len(a) < 4:
            attention_polynomial(a, b, c)
        elif len(a) != len(b):
            raise ValueError(f"a and b must have the same length L - 1; got {len(a)} and {len(b)}")
        model = cls(n_features, len(a) + 1, normalize=False).double()
        features = torch.eye(n_features + 1, dtype=torch.float64)
        features[-1, -1] = 0.0
        with torch.no_grad():
            for layer, gain_x, gain_y in zip(model.layers, [*a, 0.0], [*b, c], strict=True):
                layer.Wq.copy_(features)
                layer.Wk.copy_(features)
                values = [float(gain_x)] * n_features + [float(gain_y)]
                layer.Wv.copy_(torch.diag(torch.tensor(values, dtype=torch.float64)))
            model.head.copy_(torch.eye(n_features + 1, dtype=torch.float64)[-1])
        return model


class TaskPromptLinearAttention(nn.Module):
    r"""One linear attention layer with a prompt token and a head for each task.

    ``structure="gd"`` is :math:`f = x' W (X'(y + X h_k) + p_k)`, one preconditioned gradient step;
    ``structure="full"`` is :math:`f = (x, 0)' W_q W_k' Z_k'Z_k W_v h_k` with :math:`Z_k` the context rows
    below the prompt token and :math:`h_k = e_{d+1}` where heads are not trained.

    Parameters
    ----------
    n_features, n_tasks : int
    prompt : bool, default=True
        Train a prompt per task.
    head : bool, default=False
        Train a head per task.
    structure : {"gd", "full"}, default="gd"
    normalize : bool, default=True
        Divide sums over the context by n.
    score_scale : {None, "paper"}, default=None
        "paper" divides by sqrt(d + 1).

    Examples
    --------
    >>> import torch
    >>> from mlpapers.icl import TaskPromptLinearAttention, paper_settings
    >>> mixture, _ = paper_settings()["mean0_c11"]
    >>> layer = TaskPromptLinearAttention(n_features=10, n_tasks=2, head=True).double()
    >>> layer.load_optimum(mixture, n_context=20, strategy="prompt+head")
    >>> drawn = mixture.sample(2000, 20, random_state=0)
    >>> X, y, x_query, task = map(torch.as_tensor, (drawn.X, drawn.y, drawn.x_query, drawn.task))
    >>> errors = (layer(X, y, x_query, task).detach() - torch.as_tensor(drawn.y_query)) ** 2
    >>> round(float(errors.mean()), 1)  # the smallest loss is 3.548
    3.6
    """

    W: nn.Parameter
    Wq: nn.Parameter
    Wk: nn.Parameter
    Wv: nn.Parameter

    def __init__(
        self,
        n_features: int,
        n_tasks: int,
        *,
        prompt: bool = True,
        head: bool = False,
        structure: Literal["gd", "full"] = "gd",
        normalize: bool = True,
        score_scale: Literal["paper"] | None = None,
    ) -> None:
        super().__init__()
        d, K = check_int("n_features", n_features, minimum=1), check_int("n_tasks", n_tasks, minimum=1)
        self.n_features, self.n_tasks = d, K
        self.structure = check_choice("structure", structure, ("gd", "full"))
        self.normalize = check_bool("normalize", normalize)
        self.score_scale = check_choice("score_scale", score_scale, (None, "paper"))
        self.prompt, self.head = check_bool("prompt", prompt), check_bool("head", head)
        width = d if structure == "gd" else d + 1
        names = ("W",) if structure == "gd" else ("Wq", "Wk", "Wv")
        for name in names:
            self.register_parameter(name, nn.Parameter(torch.empty(width, width)))
        self.prompts = nn.Parameter(torch.zeros(K, width), requires_grad=self.prompt)
        self.heads = nn.Parameter(torch.zeros(K, width), requires_grad=self.head)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw matrices and prompts anew; heads start at zero ("gd") or at e_{d+1} ("full")."""
        width = self.prompts.shape[1]
        for name, parameter in self.named_parameters():
            if name.startswith("W"):
                nn.init.normal_(parameter, std=0.3 / math.sqrt(width))
        nn.init.zeros_(self.heads)
        nn.init.zeros_(self.prompts)
        if self.prompt:
            nn.init.normal_(self.prompts, std=1.0 if self.structure == "full" else 0.1)
        if self.structure == "full":
            with torch.no_grad():
                self.heads[:, -1] = 1.0

    def forward(self, X: Tensor, y: Tensor, x_query: Tensor, task: Tensor) -> Tensor:
        """Return f of shape (B,) for X (B, n, d), y (B, n), x_query (B, d) and task ids (B,)."""
        check_prompts(X, y, x_query, self.n_features)
        if task.shape != X.shape[:1]:
            raise ValueError(f"task must have shape {tuple(X.shape[:1])}, as X; got {tuple(task.shape)}")
        n = X.shape[1]
        scale = 1.0 / n if self.normalize else 1.0
        if self.score_scale == "paper":
            scale /= math.sqrt(self.n_features + 1)
        prompt, head = self.prompts[task], self.heads[task]
        if self.structure == "gd":
            target = y + (X @ head[..., None]).squeeze(-1)
            gradient = scale * (X.transpose(1, 2) @ target[..., None]).squeeze(-1)
            return ((x_query @ self.W) * (gradient + prompt)).sum(1)
        rows = torch.cat([X, y[..., None]], dim=2)
        moments = rows.transpose(1, 2) @ rows
        if self.prompt:
            moments = moments + prompt[:, :, None] * prompt[:, None, :]
        query = torch.cat([x_query, torch.zeros_like(x_query[:, :1])], dim=1)
        scores = query @ self.Wq @ self.Wk.T
        values: Tensor = (moments @ self.Wv @ head[..., None]).squeeze(-1)
        return scale * (scores * values).sum(1)

    def load_optimum(self, mixture: TaskMixture, n_context: int, strategy: str) -> None:
        """Set the weights of ``structure="gd"`` to :func:`optimal_weights` of a strategy.

        Parameters
        ----------
        mixture : TaskMixture
        n_context : int
            The context length that the weights are best for.
        strategy : str
            One of :func:`strategies`.

        Raises
        ------
        ValueError
            For ``structure="full"``, or a mixture of other dimensions.
        """
        from mlpapers.icl.prompt_theory import optimal_weights

        if self.structure != "gd":
            raise ValueError(f"load_optimum needs structure='gd'; got {self.structure!r}")
        if (mixture.n_tasks, mixture.n_features) != (self.n_tasks, self.n_features):
            raise ValueError(
                f"mixture must have {self.n_tasks} tasks and {self.n_features} features; "
                f"got {mixture.n_tasks} and {mixture.n_features}"
            )
        optimum = optimal_weights(mixture, n_context, strategy)
        scale = 1.0 / n_context if self.normalize else 1.0
        if self.score_scale == "paper":
            scale /= math.sqrt(self.n_features + 1)
        with torch.no_grad():
            self.W.copy_(_tensor(optimum.W / scale))
            self.prompts.copy_(_tensor(optimum.prompts * scale))
            self.heads.copy_(_tensor(optimum.heads))


def _tensor(array: np.ndarray[Any, np.dtype[np.float64]]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
