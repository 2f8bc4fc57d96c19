"""Passkeys: five digits somewhere in a text that says nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlpapers.core._axes import new_axes
from mlpapers.core.result import Result
from mlpapers.core.validation import check_int, check_rng

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PasskeyResult", "passkey_prompts"]

_FILLER = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. "
_NEEDLE = "The pass key is {key}. Remember it. "
_QUESTION = "What is the pass key? The pass key is "


@dataclass(frozen=True, kw_only=True, eq=False)
class PasskeyResult(Result):
    """Prompts with a passkey, and its answers.

    Attributes
    ----------
    prompts : list of str
    answers : list of str
        Five digits each.
    depths : ndarray of shape (n,)
        Where the passkey stands: 0 = beginning, 1 = end of the filler.
    """

    prompts: list[str]
    answers: list[str]
    depths: NDArray[np.float64]

    def accuracy(self, complete: Callable[[Sequence[str]], Sequence[str]]) -> float:
        """Return the share of prompts that are completed with the right digits.

        Parameters
        ----------
        complete : callable
            Takes the prompts and returns as many texts; what counts is that a text begins with the answer,
            blanks before it aside.

        Returns
        -------
        accuracy : float
        """
        texts = list(complete(self.prompts))
        if len(texts) != len(self.prompts):
            raise ValueError(f"complete must return {len(self.prompts)} texts; got {len(texts)}")
        right = [text.lstrip().startswith(answer) for text, answer in zip(texts, self.answers)]
        return float(np.mean(right))

    def to_frame(self) -> pd.DataFrame:
        """Return one row per prompt: answer, depth, length in characters.

        Returns
        -------
        pandas.DataFrame
        """
        lengths = [len(prompt) for prompt in self.prompts]
        return pd.DataFrame({"answer": self.answers, "depth": self.depths, "length": lengths})

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw where the passkeys stand.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        **options
            Passed to ``Axes.hist``.

        Returns
        -------
        matplotlib Axes
        """
        ax = new_axes(ax)
        ax.hist(self.depths, **{"bins": 10, "range": (0.0, 1.0), **options})
        ax.set(xlabel="depth of the passkey", ylabel="prompts")
        return ax


def passkey_prompts(
    n_prompts: int = 100, *, n_characters: int = 2000, random_state: Any = None
) -> PasskeyResult:
    """Make prompts that hide a passkey of five digits in filler, and ask for it at the end.

    Parameters
    ----------
    n_prompts : int, default=100
    n_characters : int, default=2000
        Length of a prompt: filler is cut so that it is met exactly.
    random_state : int, RandomState, Generator or None, default=None

    Returns
    -------
    PasskeyResult

    References
    ----------
    [1] Mohtashami and Jaggi, "Landmark Attention", NeurIPS 2023 (the task).

    Examples
    --------
    >>> from mlpapers.attention import passkey_prompts
    >>> result = passkey_prompts(3, n_characters=500, random_state=0)
    >>> [len(prompt) for prompt in result.prompts], result.answers[0] in result.prompts[0]
    ([500, 500, 500], True)
    """
    check_int("n_prompts", n_prompts, minimum=1)
    fixed = len(_NEEDLE.format(key="00000")) + len(_QUESTION)
    check_int("n_characters", n_characters, minimum=fixed)
    rng = check_rng(random_state)
    n_filler = n_characters - fixed
    filler = (_FILLER * (n_filler // len(_FILLER) + 1))[:n_filler]
    depths = rng.random(n_prompts)
    prompts, answers = [], []
    for depth, number in zip(depths, rng.integers(0, 100_000, size=n_prompts)):
        key, cut = f"{number:05d}", round(depth * n_filler)
        prompts.append(filler[:cut] + _NEEDLE.format(key=key) + filler[cut:] + _QUESTION)
        answers.append(key)
    return PasskeyResult(prompts=prompts, answers=answers, depths=depths)
