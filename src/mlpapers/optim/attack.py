"""One perturbation that fools a model on many images, found by queries alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.core._axes import new_axes
from mlpapers.core.validation import check_choice, check_int, check_real
from mlpapers.optim._method_options import reads
from mlpapers.optim.constraints._base import ConstraintSet
from mlpapers.optim.constraints.balls import L2Ball, LInfBall
from mlpapers.optim.finite_sum import FiniteSum
from mlpapers.optim.minimize import minimize_fw_zo
from mlpapers.optim.result import FWResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["AttackResult", "attack_sum", "universal_attack"]

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class AttackResult(FWResult):
    """A universal perturbation.

    Attributes
    ----------
    perturbation : ndarray
        In the shape of one image; in tanh space what is added before tanh.
    fooling_rate : float
        Share of images that are not classified as their label (targeted: classified as the target).
    clean_rate : float
        The same share without a perturbation.
    mean_distortion : float
        Mean l2 distance of attacked and clean images.
    images : ndarray
        The attacked images, as many as are shown at most (16).
    """

    perturbation: NDArray[Any]
    fooling_rate: float
    clean_rate: float
    mean_distortion: float
    images: NDArray[Any]

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the perturbation as an image (``show="history"``: the run, as of :class:`FWResult`).

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.
        **options
            ``show``: "perturbation" (default) or "history"; the others go to ``imshow`` or ``plot``.

        Returns
        -------
        matplotlib Axes
        """
        show = check_choice("show", options.pop("show", "perturbation"), ("perturbation", "history"))
        if show == "history":
            return super().plot(ax, **options)
        ax = new_axes(ax)
        picture = _as_picture(np.asarray(self.perturbation))
        top = float(np.abs(picture).max()) or 1.0
        if picture.ndim == 3:
            ax.imshow(0.5 + 0.5 * picture / top, **options)
        else:
            ax.imshow(picture, **{"cmap": "RdBu_r", "vmin": -top, "vmax": top, **options})
        ax.set(title=f"fools {self.fooling_rate:.0%} of the images", xticks=[], yticks=[])
        return ax


def universal_attack(
    model: Callable[[Any], Any],
    images: Any,
    labels: Any,
    *,
    norm: str = "linf",
    eps: float,
    space: str = "pixel",
    clip: tuple[float, float] = (0.0, 1.0),
    loss: str = "margin",
    margin: float = 0.0,
    targeted: int | None = None,
    max_queries: int,
    method: str = "dvr",
    random_state: Any = None,
    **fw_options: Any,
) -> AttackResult:
    r"""Find one perturbation of norm at most eps that fools a model on all images, from its outputs alone.

    In pixel space an attacked image is clip(z + delta). In tanh space, with m = (a+b)/2 and r = (b-a)/2,

    .. math:: z' = m + r \tanh\bigl(\mathrm{arctanh}((1 - 5 \cdot 10^{-7})(z - m)/r) + \delta\bigr).

    Parameters
    ----------
    model : callable
        Logits of a batch: a torch module, or any function of an array of images. Batches go through a torch
        module in inference mode; the images may be arrays.
    images : array or tensor of shape (n, ...)
        One image, shape (1, ...), for an attack on that image.
    labels : array of shape (n,)
        True classes.
    norm : {"linf", "l2"}
    eps : float
        Radius of the ball that holds delta.
    space : {"pixel", "tanh"}
    clip : (float, float)
        Range of pixels.
    loss : {"margin", "ce", "cw"}
        softplus(z_y - max other + margin); minus cross-entropy; max(z_y - max other, -margin). With
        `targeted` the roles are exchanged: the target shall win.
    margin : float
        By how much the wrong class must win ("margin" and "cw").
    targeted : int, optional
        A class that all images shall be taken for.
    max_queries : int
        Images shown to the model, a hard cap: what the rates and the certificate of the result need, two
        views of each image by default, is kept back from the method.
    method : str
        As of :func:`minimize_fw_zo`.
    random_state : int, Generator, RandomState, SeedSequence or None
    **fw_options
        Other arguments of :func:`minimize_fw_zo`; m0 is 8 by default (of methods that read it).

    Returns
    -------
    result : AttackResult

    Raises
    ------
    ValueError
        For bad options, labels of wrong length, images outside `clip`, or too small a `max_queries`.
    """
    eps = check_real("eps", eps, low=0.0, closed="neither")
    check_choice("norm", norm, ("linf", "l2"))
    total, shape, attacked, outputs = attack_sum(
        model, images, labels, space=space, clip=clip, loss=loss, margin=margin, targeted=targeted
    )
    d = int(np.prod(shape))
    ball: ConstraintSet = LInfBall(eps) if norm == "linf" else L2Ball(eps)
    y = _check_labels(labels, total.n_functions)
    certificate = check_choice(
        "certificate", fw_options.pop("certificate", "estimate"), ("estimate", "full", "none")
    )
    kept_back = _final_images(len(y), d, certificate, fw_options.get("fd", "forward"))
    max_queries = check_int("max_queries", max_queries, minimum=kept_back + 1)
    try:
        result = minimize_fw_zo(
            total,
            np.zeros(d),
            ball,
            method=method,
            max_queries=max_queries - kept_back,
            certificate="full" if certificate == "full" else "none",
            random_state=random_state,
            **{**({"m0": 8} if reads(method, "m0") else {}), **fw_options},
        )
    except ValueError as error:
        error.add_note(
            f"{kept_back} of max_queries={max_queries} are kept back for the rates and the certificate"
        )
        raise
    delta = np.asarray(result.x)
    clean, moved = attacked(np.zeros(d)), attacked(delta)
    logits = [outputs(batch) for batch in (clean, moved)]
    rates = [
        float(np.mean(z.argmax(axis=1) == targeted if targeted is not None else z.argmax(axis=1) != y))
        for z in logits
    ]
    distance = np.linalg.norm((moved - clean).reshape(len(moved), -1), axis=1)
    inherited = {field.name: getattr(result, field.name) for field in fields(FWResult)}
    if certificate == "estimate":
        goal = y if targeted is None else np.full(len(y), int(targeted))
        final = _loss(logits[1], goal, loss, float(margin), targeted is not None)
        inherited["fun"] = float(np.mean(final, dtype=np.float64))
    inherited["n_queries_final"] = result.n_queries_final + 2 * len(y)
    return AttackResult(
        **inherited,
        perturbation=delta.reshape(shape),
        fooling_rate=rates[1],
        clean_rate=rates[0],
        mean_distortion=float(distance.mean()),
        images=moved[:16],
    )


def _final_images(n: int, d: int, certificate: str, fd: str) -> int:
    """Return how many images are shown after the run: clean, attacked, and for a full certificate."""
    if certificate != "full":
        return 2 * n
    return 3 * n + n * d * (2 if fd == "central" else 1)


def attack_sum(
    model: Callable[[Any], Any],
    images: Any,
    labels: Any,
    *,
    space: str,
    clip: tuple[float, float],
    loss: str,
    margin: float,
    targeted: int | None,
) -> tuple[FiniteSum, tuple[int, ...], Callable[[Array], Array], Callable[[Array], Array]]:
    """Return the objective, an image's shape, delta -> attacked images, and images -> logits."""
    check_choice("space", space, ("pixel", "tanh"))
    check_choice("loss", loss, ("margin", "ce", "cw"))
    margin = check_real("margin", margin, low=0.0)
    if np.shape(clip) != (2,):
        raise ValueError(f"clip must be a pair (low, high); got {clip!r}")
    low, high = (check_real("clip", end) for end in clip)
    if not low < high:
        raise ValueError(f"clip must be (low, high) with low < high; got {clip!r}")
    if not callable(model):
        raise TypeError(f"model must be callable; got {type(model).__name__}")
    given = images.detach().cpu().numpy() if hasattr(images, "detach") else np.asarray(images)
    if given.ndim < 2 or not len(given):
        raise ValueError(f"images must have shape (n, ...); got {given.shape}")
    y = _check_labels(labels, len(given))
    if given.dtype.kind not in "fiub" or not np.isfinite(given).all():
        raise ValueError(f"images must be finite numbers; got dtype {given.dtype}, or NaN or infinity in it")
    if given.min() < low - 1e-6 or given.max() > high + 1e-6:
        raise ValueError(
            f"images must lie in clip = {clip!r}; they range over [{given.min()}, {given.max()}]"
        )
    goal = y if targeted is None else np.full(len(y), check_int("targeted", targeted, minimum=0))
    shape = given.shape[1:]
    flat = given.reshape(len(given), -1).astype(np.float64)
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    before_tanh = np.arctanh((1.0 - 5e-7) * np.clip((flat - middle) / half, -1.0, 1.0))
    outputs = _checked(
        _logits(model, given.dtype), "labels" if targeted is None else "targeted", int(goal.max())
    )

    def perturb(rows: NDArray[np.int64], delta: Array) -> Array:
        if space == "tanh":
            return middle + half * np.tanh(before_tanh[rows] + delta)
        return np.clip(flat[rows] + delta, low, high)

    def values(X: Array, idx: NDArray[np.int64]) -> Array:
        z = outputs(perturb(idx, X).reshape(len(idx), *shape))
        return _loss(z, goal[idx], loss, margin, targeted is not None)

    everything = np.arange(len(flat))
    total = FiniteSum(values, len(flat), flat.shape[1])
    return total, shape, lambda x: perturb(everything, x).reshape(len(flat), *shape), outputs


def _check_labels(labels: Any, n: int) -> NDArray[np.int64]:
    """Return the class numbers of `n` images."""
    y = np.asarray(labels.detach().cpu().numpy() if hasattr(labels, "detach") else labels)
    if y.shape != (n,):
        raise ValueError(f"labels must have shape ({n},); got {y.shape}")
    if y.dtype.kind not in "fiu":
        raise ValueError(f"labels must be class numbers 0, 1, 2, ...; got dtype {y.dtype}")
    bad = y[~(np.isfinite(y) & (y == np.floor(y)) & (y >= 0))]
    if bad.size:
        raise ValueError(f"labels must be class numbers 0, 1, 2, ...; got {bad[0]}")
    return y.astype(np.int64)


def _checked(outputs: Callable[[Array], Array], name: str, top: int) -> Callable[[Array], Array]:
    """Return `outputs` with a look at their shape; `top` is the highest class that `name` asks for."""

    def checked(batch: Array) -> Array:
        z = outputs(batch)
        if z.ndim != 2 or len(z) != len(batch) or z.shape[1] < 2:
            raise ValueError(
                f"model must return logits of shape (m, n_classes), at least two classes; for {len(batch)} "
                f"images it returned {z.shape}"
            )
        if top >= z.shape[1]:
            raise ValueError(f"{name} must be below {z.shape[1]}, the number of classes of model; got {top}")
        return z

    return checked


def _logits(model: Callable[[Any], Any], dtype: Any) -> Callable[[Array], Array]:
    """Return the model as a function of arrays."""
    import sys

    torch = sys.modules.get("torch")
    if torch is None or not isinstance(model, torch.nn.Module):
        return lambda batch: np.asarray(_plain(model(batch.astype(dtype, copy=False))))
    parameter = next(model.parameters(), None)
    precision = torch.float32 if parameter is None else parameter.dtype
    device = "cpu" if parameter is None else parameter.device

    def outputs(batch: Array) -> Array:
        training = model.training
        model.eval()
        try:
            with torch.inference_mode():
                return model(torch.as_tensor(batch, dtype=precision, device=device)).cpu().numpy()
        finally:
            model.train(training)

    return outputs


def _plain(answer: Any) -> Any:
    return answer.detach().cpu().numpy() if hasattr(answer, "detach") else answer


def _loss(z: Array, goal: NDArray[np.int64], loss: str, margin: float, targeted: bool) -> Array:
    """Losses that fall as the model is fooled, in the precision of the logits."""
    rows = np.arange(len(z))
    own = z[rows, goal]
    if loss == "ce":
        top = z.max(axis=1)
        entropy = np.log(np.exp(z - top[:, None]).sum(axis=1)) + top - own
        return entropy if targeted else -entropy
    others = z.copy()
    others[rows, goal] = -math.inf
    lead = own - others.max(axis=1)
    lead = -lead if targeted else lead
    if loss == "cw":
        return np.maximum(lead, z.dtype.type(-margin))
    return np.logaddexp(z.dtype.type(0.0), lead + z.dtype.type(margin))


def _as_picture(image: NDArray[Any]) -> NDArray[Any]:
    if image.ndim == 3 and image.shape[0] in (1, 3):
        image = np.moveaxis(image, 0, -1)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.ndim != 1:
        return image
    side = math.isqrt(image.size)
    return image.reshape(side, side) if side * side == image.size else image[None]
