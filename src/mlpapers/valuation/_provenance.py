"""What a Monte Carlo result is made of: the seeds of its draws, and which game they were drawn in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy.sparse import csr_array, issparse

from mlpapers.valuation._games import BlockGame, Game
from mlpapers.valuation._knn_utility import KNNUtility
from mlpapers.valuation.utility import Utility

# Parameters of an estimator that say how it computes, not what.
_INDIFFERENT = ("n_jobs", "verbose")


def seed_range(seeds: list[np.random.SeedSequence]) -> tuple[str, int, int]:
    """Name the seeds that one call of ``SeedSequence.spawn`` returned: parent, first, one past the last."""
    first = seeds[0]
    parent = np.random.SeedSequence(first.entropy, spawn_key=first.spawn_key[:-1], pool_size=first.pool_size)
    state = parent.generate_state(4, np.uint32).tobytes().hex()
    start = int(first.spawn_key[-1])
    return state, start, start + len(seeds)


def game_fingerprint(game: Game, structure: Iterable[Any]) -> str | None:
    """Return a hash of the data and settings of `game` and of arrays `structure` or None that weigh orders.

    None for a game that is only a function. Settings that are neither numbers nor texts, nor lists or dicts
    of them, count by their type alone.
    """
    parts = _game_parts(game)
    if parts is None:
        return None
    digest = hashlib.blake2b(digest_size=8)
    for part in (*parts, *structure):
        content = _content(part)
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()


def _game_parts(game: Game) -> list[Any] | None:
    if isinstance(game, BlockGame):
        inner = _game_parts(game.game)
        return None if inner is None else [*inner, "blocks", *game.blocks]
    if isinstance(game, KNNUtility):
        return [f"{game.n_neighbors} neighbours, {game.task}", game.X, game.X_val, *game.label_arrays()]
    if isinstance(game, Utility):
        settings = (game.empty_value_, game.on_error, game.single_class, _plain(game.scoring))
        return [repr(settings), _model(game.estimator), game.X, game.y, game.X_val, game.y_val]
    return None


def _model(estimator: Any) -> str:
    params = sorted(estimator.get_params(deep=True).items())
    kept = {name: _plain(value) for name, value in params if name.split("__")[-1] not in _INDIFFERENT}
    return f"{type(estimator).__qualname__}{kept}"


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | int | float | np.number | np.bool_):
        return float(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return [[_plain(key), _plain(item)] for key, item in value.items()]
    return type(value).__qualname__


def _content(part: Any) -> bytes:
    """Return bytes that are equal for equal values; numbers of any type are compared as float64."""
    if part is None or isinstance(part, str):
        return str(part).encode()
    if issparse(part):
        rows = csr_array(part, copy=True)
        rows.sum_duplicates()
        return b"".join(map(_content, (rows.data, rows.indices, rows.indptr)))
    array = np.asarray(part)
    shape = str(array.shape).encode()
    if array.dtype.kind in "biuf":
        # Adding zero makes -0.0 and 0.0 the same bytes.
        numbers = array.astype(np.float64).ravel() + 0.0
        return shape + hashlib.blake2b(numbers.data).digest()
    texts = "\0".join(map(str, array.ravel().tolist()))
    return shape + texts.encode(errors="backslashreplace")
