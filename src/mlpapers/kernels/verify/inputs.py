"""Trial inputs: the task's own distribution, other values, other sizes.

KernelBench draws from U[0, 1), where the identity passes for ReLU and clamps hide: floats are also mapped
u -> 6u - 3. A kernel that was specialised to one batch size passes at that size only: other sizes are drawn
too. Seeds are chosen here, in the parent, and never reach the candidate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mlpapers.kernels.verify._tally import Answer
from mlpapers.kernels.verify.oracle import Comparison, answers_of, compare
from mlpapers.kernels.verify.reference import Reference, copies

if TYPE_CHECKING:
    from mlpapers.kernels.task import Task

SHAPE_POLICIES = ("batch", "static", "dynamic")
# More exact zeros than this are structure (a triangular matrix, a mask), which other values must keep.
_STRUCTURAL_ZEROS = 0.01


@dataclass(frozen=True)
class Trial:
    """One call that is compared.

    Attributes
    ----------
    label : str
        What it is, in words.
    inputs : list
    state : dict
        Weights and buffers before the call.
    call_seed : int
        Seeds the generator right before ``forward``, for tasks that draw in it.
    eager, oracle : list
        Flat outputs of the reference.
    state_after : dict
        Weights and buffers after the reference's call.
    mutates : bool
        The reference writes to these inputs.
    answers : list
        What of an output's errors depends on `eager` and `oracle` alone.
    """

    label: str
    inputs: list[Any]
    state: dict[str, Any]
    call_seed: int
    eager: list[Any] = field(repr=False)
    oracle: list[Any] = field(repr=False)
    state_after: dict[str, Any] = field(repr=False)
    mutates: bool = False
    answers: list[Answer | None] = field(default_factory=list, repr=False)

    def judge(self, outputs: Sequence[Any], rtol: float | None = None) -> Comparison:
        """Return the verdict on a candidate's flat outputs."""
        return compare(
            self.eager, self.oracle, outputs, rtol=rtol, inputs=self.inputs, answers=self.answers or None
        )


def draw_trials(
    task: Task,
    reference: Reference,
    *,
    n_correct: int,
    shape_policy: str,
    rng: np.random.Generator,
) -> list[Trial]:
    """Draw all trials of a task.

    Parameters
    ----------
    task : Task
    reference : Reference
    n_correct : int
        Trials at the task's own sizes. From 3 on every fifth, and at least one, has other values; the weights
        change from the second on.
    shape_policy : {"batch", "static", "dynamic"}
    rng : numpy.random.Generator

    Returns
    -------
    trials : list of Trial
    """
    state = reference.state()
    n_other = max(1, n_correct // 5) if n_correct > 2 else 0
    trials: list[Trial] = []
    for k in range(n_correct):
        inputs = task.draw_inputs(_seed(rng))
        weights = state if k == 0 else _perturbed(state, rng)
        if k >= n_correct - n_other:
            other = _evaluate(reference, "other values", _spread(inputs), weights, rng, finite=True)
            if other is not None:
                trials.append(other)
                continue
        trial = _evaluate(reference, "own distribution", inputs, weights, rng)
        if trial is None:
            raise ValueError(f"task {task.name!r}: the reference raises on its own inputs")
        trials.append(trial)
    if shape_policy != "static":
        trials += _resized_trials(task, reference, state, shape_policy, rng)
    return trials


def _resized_trials(
    task: Task, reference: Reference, state: dict[str, Any], shape_policy: str, rng: np.random.Generator
) -> list[Trial]:
    base = task.draw_inputs(_seed(rng))
    found: list[Trial] = []
    for groups in _size_groups(base, shape_policy):
        # The candidates for what may change together: the whole group, or, where the reference refuses that,
        # the first place alone (the rows of one factor of a square product).
        for places in [groups] if len(groups) == 1 else [groups, groups[:1]]:
            size = base[places[0][0]].shape[places[0][1]]
            sizes = _new_sizes(size, shape_policy)
            trials = [
                _evaluate(
                    reference,
                    f"size {size} -> {new}",
                    resize(task, base, places, new, rng),
                    state,
                    rng,
                )
                for new in sizes
            ]
            if trials and all(trial is not None for trial in trials):
                found += [trial for trial in trials if trial is not None]
                break
    return found


def _size_groups(inputs: Sequence[Any], shape_policy: str) -> list[list[tuple[int, int]]]:
    """Return groups of (input, dimension) of the same size; for "batch" only that of the leading one."""
    import torch

    tensors = [(i, x) for i, x in enumerate(inputs) if isinstance(x, torch.Tensor) and x.ndim]
    if not tensors:
        return []
    if shape_policy == "batch":
        first = tensors[0][1].shape[0]
        return [[(i, 0) for i, x in tensors if x.shape[0] == first]]
    groups: dict[int, list[tuple[int, int]]] = {}
    for i, x in tensors:
        for dim, size in enumerate(x.shape):
            groups.setdefault(size, []).append((i, dim))
    return list(groups.values())


def _new_sizes(size: int, shape_policy: str) -> list[int]:
    """Return b + 1 and ceil(b / 2), or for "dynamic" one, an odd size, and twice the size.

    Nothing can be drawn for a dimension of which the task draws no entries: 0 keeps its size.
    """
    if size == 0:
        return []
    if shape_policy == "batch":
        wanted = [size + 1, -(-size // 2)]
    else:
        odd = size // 2 * 2 + 3
        wanted = [1, odd, 2 * size]
    return [new for new in dict.fromkeys(wanted) if new not in (0, size)]


def resize(
    task: Task, inputs: Sequence[Any], places: Sequence[tuple[int, int]], size: int, rng: np.random.Generator
) -> list[Any]:
    """Return inputs whose dimensions `places` have `size` entries: cut off, or continued with fresh draws."""
    import torch

    resized = copies(inputs)
    for i, dim in places:
        parts, length = [resized[i]], resized[i].shape[dim]
        while length < size:
            more = task.draw_inputs(_seed(rng))[i]
            # Other dimensions may have been resized already.
            for other, wanted in enumerate(resized[i].shape):
                if other != dim:
                    index = torch.arange(wanted) % more.shape[other]
                    more = more.index_select(other, index)
            parts.append(more)
            length += more.shape[dim]
        resized[i] = torch.cat(parts, dim).narrow(dim, 0, size).contiguous()
    return resized


def _evaluate(
    reference: Reference,
    label: str,
    inputs: list[Any],
    state: dict[str, Any],
    rng: np.random.Generator,
    *,
    finite: bool = False,
) -> Trial | None:
    """Return the trial with the reference's answers; None where the reference refuses these inputs."""
    call_seed = _seed(rng)
    if label.startswith("size") and not reference.takes(inputs, state):
        return None
    try:
        called = reference.run_watched(inputs, state, call_seed)
    except (RuntimeError, ValueError, IndexError, TypeError, AssertionError):
        return None
    trial = answered(reference, label, inputs, state, call_seed, called)
    if finite and not all(_is_finite(value) for value in (*trial.eager, *trial.oracle)):
        return None
    return trial


def answered(
    reference: Reference,
    label: str,
    inputs: list[Any],
    state: dict[str, Any],
    call_seed: int,
    called: tuple[list[Any], dict[str, Any], bool] | None = None,
) -> Trial:
    """Return the trial of these inputs and weights, with the reference's answers.

    Parameters
    ----------
    reference : Reference
    label : str
    inputs : list
    state : dict
    call_seed : int
    called : tuple, optional
        What ``reference.run_watched`` returned for them.

    Returns
    -------
    trial : Trial
    """
    eager, after, mutates = called or reference.run_watched(inputs, state, call_seed)
    wide = reference.run_double(inputs, state, call_seed)
    oracle = eager if wide is None else wide
    answers = answers_of(eager, oracle)
    return Trial(label, inputs, state, call_seed, eager, oracle, after, mutates, answers)


def _is_finite(value: Any) -> bool:
    import torch

    return bool(torch.as_tensor(value).isfinite().all())


def _spread(inputs: Sequence[Any]) -> list[Any]:
    """Map floats in [0, 1] to 6u - 3 and scale others by 3; exact zeros that are structure stay."""
    import torch

    spread = copies(inputs)
    for i, x in enumerate(spread):
        if not isinstance(x, torch.Tensor) or not x.is_floating_point() or not x.numel():
            continue
        inside = bool(((x >= 0) & (x <= 1)).all())
        new = 6 * x - 3 if inside else 3 * x
        zero = x == 0
        if float(zero.double().mean()) > _STRUCTURAL_ZEROS:
            new = torch.where(zero, x, new)
        spread[i] = new.to(x.dtype)
    return spread


def _perturbed(state: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Return the state with every float entry a little larger, each tensor by its own factor.

    A kernel that copied its weights when it was constructed does not follow.
    """
    import torch

    changed = {}
    scaled: dict[int, Any] = {}
    for key, value in state.items():
        factor = float(rng.uniform(1.05, 1.3))
        is_real = isinstance(value, torch.Tensor) and value.is_floating_point()
        # Keys of one tied weight keep one value.
        if id(value) not in scaled:
            scaled[id(value)] = value * factor if is_real else value
        changed[key] = scaled[id(value)]
    return changed


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def seeds(rng: np.random.Generator) -> Iterator[int]:
    """Yield seeds without end."""
    while True:
        yield _seed(rng)
