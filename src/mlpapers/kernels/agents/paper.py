"""The paper's settings as parameters of the agent."""

from __future__ import annotations

from typing import Any

# Islands, parallel candidates a round, rounds: from summaries of the paper, as its text was not at hand.
_ISLANDS = 2
_PARALLEL = 4
_ROUNDS = 3


def paper_config() -> dict[str, Any]:
    """Return the paper's settings: a language model, its routing, and evolution in three rounds of four.

    Returns
    -------
    params : dict
        For :class:`KernelAgent`, beside ``llm``.

    Examples
    --------
    >>> paper_config()["n_candidates"]
    12
    """
    return {
        "strategy": "llm",
        "workflow": "paper",
        "search": "evolve",
        "num_islands": _ISLANDS,
        "n_candidates": _PARALLEL * _ROUNDS,
    }
