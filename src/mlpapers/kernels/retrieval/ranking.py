"""``retrieve``: the documents of a kernel language that fit a task best."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlpapers.core.validation import check_choice, check_int
from mlpapers.kernels.dsl import get_dsl, resolve
from mlpapers.kernels.dsl.base import get_backend, list_dsls
from mlpapers.kernels.retrieval.documents import Card, Document, load_cards
from mlpapers.kernels.retrieval.features import Features, features
from mlpapers.kernels.task import check_task

if TYPE_CHECKING:
    from mlpapers.kernels.task import Task

SCHEMES = ("fused", "paper")
_RANK_OFFSET = 60
_RELEVANCE = 0.7
_RANK_MISMATCH = 4.0
# Of all languages' documents, so many are nearest in what they compute ("paper").
_SHORTLIST = 20
_CHAIN = ("matmul", "conv", "fused")


def retrieve(
    task: Task,
    *,
    dsl: str,
    backend: str = "auto",
    k: int = 3,
    scheme: str = "fused",
    docs: str | os.PathLike[str] | None = None,
) -> list[Document]:
    r"""Return the documents that fit a task.

    ``scheme="fused"`` filters first, by language, device and architecture, so that a rare language is never
    crowded out; prefers documents of the task's category; ranks them by what they compute (TF-IDF over names
    of operations and texts) and by shapes, fuses the two ranks and picks k that differ:

    .. math::
       \mathrm{score}(d) = \sum_j \frac{1}{60 + \mathrm{rank}_j(d)}, \qquad
       \mathrm{next} = \arg\max_d \; 0.7\,\frac{\mathrm{score}(d)}{\max \mathrm{score}}
       - 0.3 \max_{c\ \mathrm{chosen}} \cos(d, c).

    The distance of shapes is the L1 distance of log2 of the dims, plus 4 for each dim that one of them
    lacks. ``scheme="paper"`` is the paper's: nearest in what is computed among all languages, then the hard
    filter on language, device and category, then the nearest shapes; it may return fewer than k.

    Parameters
    ----------
    task : Task
    dsl : str
    backend : str
    k : int
    scheme : {"fused", "paper"}
    docs : path-like, optional
        A folder with further documents.

    Returns
    -------
    documents : list of Document
        Best first.

    Raises
    ------
    ValueError
        For an unknown name, k < 1, or a language without documents.
    FileNotFoundError
        If `docs` is no folder.

    Examples
    --------
    >>> from mlpapers.kernels import mini_bench
    >>> [document.kind for document in retrieve(mini_bench()[0], dsl="cpp", k=1)]
    ['example']
    """
    check_task(task)
    check_int("k", k, minimum=1)
    check_choice("scheme", scheme, SCHEMES)
    get_dsl(dsl)
    dsl, backend = resolve(dsl, backend)
    wanted = features(task)
    cards = load_cards(dsl, docs)
    if scheme == "paper":
        return _paper(wanted, dsl, backend, k, cards)
    return _fused(wanted, _usable(cards, backend), k)


def _fused(wanted: Features, cards: Sequence[Card], k: int) -> list[Document]:
    same = [card for card in cards if _same_category(card, wanted)]
    others = [card for card in cards if not _same_category(card, wanted)]
    found: list[Document] = []
    for group in (same, others):
        if len(found) < k and group:
            found += _ranked(wanted, group, k - len(found))
    return found


def _ranked(wanted: Features, cards: Sequence[Card], k: int) -> list[Document]:
    """Return k documents by fused ranks and maximal marginal relevance."""
    alike, between = _cosines(wanted, cards)
    far = np.array([shape_distance(wanted.shapes, card.shapes) for card in cards])
    scores = 1 / (_RANK_OFFSET + _ranks(-alike)) + 1 / (_RANK_OFFSET + _ranks(far))
    relevance = scores / scores.max()
    chosen: list[int] = []
    while len(chosen) < min(k, len(cards)):
        left = [i for i in range(len(cards)) if i not in chosen]
        gains = [
            _RELEVANCE * relevance[i] - (1 - _RELEVANCE) * max((between[i, j] for j in chosen), default=0.0)
            for i in left
        ]
        chosen.append(left[int(np.argmax(gains))])
    return [replace(cards[i].document, score=float(scores[i])) for i in chosen]


def _paper(wanted: Features, dsl: str, backend: str, k: int, own: Sequence[Card]) -> list[Document]:
    pool = list(own)
    for other in dict.fromkeys(list_dsls()["name"]):
        if other != dsl:
            try:
                pool += load_cards(other)
            except ValueError:
                # A language without documents takes part in nothing.
                continue
    alike, _ = _cosines(wanted, pool)
    nearest = sorted(range(len(pool)), key=lambda i: (-alike[i], pool[i].document.path))[:_SHORTLIST]
    kept = [i for i in nearest if pool[i].dsl == dsl and _same_category(pool[i], wanted)]
    usable = {card.document.path for card in _usable([pool[i] for i in kept], backend)}
    kept = [i for i in kept if pool[i].document.path in usable]
    kept.sort(key=lambda i: (shape_distance(wanted.shapes, pool[i].shapes), -alike[i]))
    return [replace(pool[i].document, score=float(alike[i])) for i in kept[:k]]


def _usable(cards: Sequence[Card], backend: str) -> list[Card]:
    """Return the documents that are for this device."""
    cards = [card for card in cards if not card.backends or backend in card.backends]
    if any(card.archs for card in cards) and get_backend(backend).available()[0]:
        arch = get_backend(backend).hardware().arch
        cards = [card for card in cards if not card.archs or arch in card.archs]
    return list(cards)


def _same_category(card: Card, wanted: Features) -> bool:
    if not card.category or card.category == wanted.category:
        return True
    # A product with a chain behind it is written like the product.
    return card.category in _CHAIN and wanted.category in _CHAIN


def _cosines(wanted: Features, cards: Sequence[Card]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how alike the task and each document are, and the documents among each other."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [" ".join([*card.ops * 3, card.category, card.document.text]) for card in cards]
    vectorizer = TfidfVectorizer(token_pattern=r"[A-Za-z_]\w+", sublinear_tf=True)
    # Rows have unit length, so products are cosines.
    rows = vectorizer.fit_transform([*texts, wanted.text])
    products = np.asarray((rows @ rows.T).todense(), dtype=np.float64)
    return products[-1, :-1], products[:-1, :-1]


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 for the smallest value; equal values share the better rank."""
    return 1.0 + np.array([np.sum(values < value) for value in values], dtype=np.float64)


def shape_distance(first: Sequence[Sequence[int]], second: Sequence[Sequence[int]]) -> float:
    """Return how far the shapes of two lists of tensors are apart.

    Parameters
    ----------
    first, second : sequence of shapes
        Compared in order, dims from the last; inf where one list is empty.

    Returns
    -------
    distance : float

    Examples
    --------
    >>> shape_distance([(64, 512)], [(32, 512)])
    1.0
    >>> shape_distance([(8, 64, 512)], [(64, 512)])
    4.0
    """
    if not first or not second:
        return math.inf
    total = 0.0
    for index in range(max(len(first), len(second))):
        a = list(first[index]) if index < len(first) else []
        b = list(second[index]) if index < len(second) else []
        total += _RANK_MISMATCH * abs(len(a) - len(b))
        total += sum(abs(math.log2(max(x, 1)) - math.log2(max(y, 1))) for x, y in zip(a[::-1], b[::-1]))
    return total
