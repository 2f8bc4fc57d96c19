"""Values in rounds: what each source adds to the model as it stands, earlier rounds never re-run."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from mlpapers.core.parallel import parallel_map, spawn_seeds
from mlpapers.core.validation import check_choice, check_int, check_workers, seed_sequence
from mlpapers.valuation.game import exact_shapley
from mlpapers.valuation.rounds import RoundResult, SequentialResult
from mlpapers.valuation.utility import check_finite

__all__ = ["SequentialShapley"]

# Sources up to which a round is enumerated by default, and at most.
_AUTO_EXACT, _MAX_EXACT = 8, 16

Coalition = frozenset[int]


class SequentialShapley(BaseEstimator):
    r"""Values of sources that update a model round after round, conditional on the model as it stands.

    In round t with model :math:`A_{t-1}` and sources :math:`D_t`, the game is

    .. math:: v(S; A_{t-1}) = \text{evaluate}(\text{update}(A_{t-1}, S)), \qquad
        v(\emptyset; A_{t-1}) = \text{evaluate}(A_{t-1}),

    and a source is worth its Shapley value in it. Earlier rounds are not run again; the values of a round sum
    to :math:`v(D_t; A_{t-1}) - v(\emptyset; A_{t-1})`. In federated learning this is the federated Shapley
    value [1]_.

    Parameters
    ----------
    update : callable
        ``update(state, payloads)`` returns a new state from a list of payloads and leaves `state` as it is.
        Where it has a method ``prepare(state, sources)``, that is called once per round and returns one
        payload per source (locally trained models, say); otherwise the payloads are the sources themselves.
    evaluate : callable
        ``evaluate(state)`` returns a finite number, higher is better.
    method : {"auto", "exact", "mc"}, default="auto"
        "exact" evaluates all :math:`2^n` coalitions of a round (up to 16 sources), "mc" the prefixes of
        random orders, each coalition once; "auto" is "exact" up to 8 sources.
    max_permutations : int, default=200
        Orders a round for "mc".
    random_state : int, RandomState, Generator or None, default=None
    n_jobs : int or None, default=None
        Workers over coalitions.
    verbose : int, default=0
        Progress messages of joblib.

    References
    ----------
    .. [1] Zheng, Chang, Jia, Tan, Huang, "Rethinking Data Value", arXiv 2511.12863, Definition 3.2 and
       Remark 4.1.

    Examples
    --------
    >>> valuer = SequentialShapley(
    ...     lambda state, payloads: state + sum(payloads), lambda state: min(state, 3.0)
    ... )
    >>> valuer.value_round(0.0, [1.0, 2.0, 2.0]).values.round(4).tolist()
    [0.6667, 1.1667, 1.1667]
    >>> valuer.run(0.0, [[1.0], [1.0, 4.0]], contributors=[["a"], ["b", "a"]]).contributor_values
    {'a': 2.5, 'b': 0.5}
    """

    def __init__(
        self,
        update: Callable[[Any, list[Any]], Any],
        evaluate: Callable[[Any], float],
        *,
        method: str = "auto",
        max_permutations: int = 200,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.update = update
        self.evaluate = evaluate
        self.method = method
        self.max_permutations = max_permutations
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @classmethod
    def __mlpapers_example__(cls) -> dict[str, Any]:
        return {
            "params": {"update": _add_all, "evaluate": np.tanh, "method": "mc", "max_permutations": 20},
            "method": "run",
            "arguments": {"state": 0.0, "rounds": [[0.2, 0.5, 0.1], [0.4, 0.3, -0.2]]},
        }

    def value_round(self, state: Any, sources: Sequence[Any]) -> RoundResult:
        """Value the sources of one round.

        Parameters
        ----------
        state : object
            The model before the round.
        sources : sequence
            At least one.

        Returns
        -------
        RoundResult

        Raises
        ------
        ValueError, TypeError
            If the round is empty, too large to enumerate, a parameter is out of range, or a utility is not
            finite (the message names the number of sources).
        """
        self._check_parameters()
        return self._play(state, list(sources), seed_sequence(self.random_state), "ads")[0]

    def run(
        self,
        state: Any,
        rounds: Sequence[Sequence[Any]],
        *,
        contributors: Sequence[Sequence[Hashable]] | None = None,
        rule: str = "ads",
        top_k: int | None = None,
    ) -> SequentialResult:
        """Value round after round, and update the model with what each round keeps.

        Parameters
        ----------
        state : object
            The model before the first round.
        rounds : sequence of sequences
            The sources of each round.
        contributors : sequence of sequences of hashable, optional
            Who owns each source. By default each source is a contributor, numbered through all rounds.
        rule : {"ads", "loo", "random", "single"}, default="ads"
            Scores by which sources are valued and kept: Shapley value in the round, leave-one-out, uniform
            random numbers, or what the source adds alone.
        top_k : int or None, default=None
            Keep the k best (ties by index), all where a round has fewer; None keeps all.

        Returns
        -------
        SequentialResult

        Raises
        ------
        ValueError, TypeError
            As :meth:`value_round`; also if `contributors` does not match `rounds`.
        """
        self._check_parameters()
        check_choice("rule", rule, ("ads", "loo", "random", "single"))
        if top_k is not None:
            check_int("top_k", top_k, minimum=1)
        played = [list(sources) for sources in rounds]
        if not played:
            raise ValueError("rounds must hold at least one round; got none")
        owners = _owners(played, contributors)
        states = [state]
        utilities: list[float] = []
        values, selected = [], []
        totals: dict[Any, float] = {}
        n_evaluations = 0
        for sources, names, seed in zip(played, owners, spawn_seeds(self.random_state, len(played))):
            result, payloads, known = self._play(states[-1], sources, seed, rule)
            scores = _scores(result, rule, seed)
            kept = np.argsort(-scores, kind="stable")[: len(scores) if top_k is None else top_k]
            coalition = frozenset(kept.tolist())
            states.append(self._updated(states[-1], payloads, coalition))
            if not utilities:
                utilities.append(result.utility_before)
            n_evaluations += result.n_evaluations
            if coalition not in known:
                known[coalition] = check_finite(self.evaluate(states[-1]), len(coalition))
                n_evaluations += 1
            utilities.append(known[coalition])
            values.append(scores)
            selected.append(kept)
            for name, score in zip(names, scores):
                totals[name] = totals.get(name, 0.0) + float(score)
        return SequentialResult(
            values=values,
            contributor_values=totals,
            selected=selected,
            utilities=np.array(utilities),
            n_evaluations=n_evaluations,
            rule=rule,
            states=states,
        )

    def _check_parameters(self) -> None:
        check_choice("method", self.method, ("auto", "exact", "mc"))
        check_int("max_permutations", self.max_permutations, minimum=1)
        check_workers(self.n_jobs, self.verbose)
        for name in ("update", "evaluate"):
            if not callable(getattr(self, name)):
                raise TypeError(f"{name} must be callable; got {getattr(self, name)!r}")

    def _play(
        self, state: Any, sources: list[Any], seed: np.random.SeedSequence, rule: str
    ) -> tuple[RoundResult, list[Any], dict[Coalition, float]]:
        """Return the result of a round, its payloads, and the utilities of the coalitions evaluated."""
        n = len(sources)
        if n == 0:
            raise ValueError("sources must hold at least one source; got an empty round")
        exact = self.method == "exact" or (self.method == "auto" and n <= _AUTO_EXACT)
        if exact and n > _MAX_EXACT:
            raise ValueError(f"method='exact' takes rounds of at most {_MAX_EXACT} sources; got {n}")
        prepare = getattr(self.update, "prepare", None)
        payloads = sources if prepare is None else list(prepare(state, sources))
        if len(payloads) != n:
            raise ValueError(f"update.prepare must return one payload per source ({n}); got {len(payloads)}")
        everybody = frozenset(range(n))
        needed: dict[Coalition, None] = dict.fromkeys([frozenset(), everybody])
        orders = np.zeros((0, n), dtype=np.int64)
        if rule in ("ads", "loo"):
            needed |= dict.fromkeys(everybody - {i} for i in range(n))
        if rule in ("ads", "single"):
            needed |= dict.fromkeys(frozenset([i]) for i in range(n))
        if rule == "ads" and exact:
            needed |= dict.fromkeys(_members(mask) for mask in range(2**n))
        elif rule == "ads":
            rng = np.random.default_rng(seed)
            orders = np.array([rng.permutation(n) for _ in range(self.max_permutations)])
            needed |= dict.fromkeys(frozenset(order[:k].tolist()) for order in orders for k in range(n))
        utilities = parallel_map(
            _utility,
            list(needed),
            n_jobs=self.n_jobs,
            shared=(self.update, self.evaluate, state, payloads),
            verbose=self.verbose,
        )
        known = dict(zip(needed, utilities))
        before, after = known[frozenset()], known[everybody]
        values, stderr = np.full(n, np.nan), np.zeros(n)
        if rule == "ads" and exact:
            values = exact_shapley(lambda players: known[frozenset(players.tolist())], n)
        elif rule == "ads":
            values, stderr = _mean_marginals(orders, known)
        result = RoundResult(
            values=values,
            loo=np.array([after - known.get(everybody - {i}, np.nan) for i in range(n)]),
            single=np.array([known.get(frozenset([i]), np.nan) - before for i in range(n)]),
            stderr=stderr,
            utility_before=before,
            utility_after=after,
            n_evaluations=len(known),
        )
        return result, payloads, known

    def _updated(self, state: Any, payloads: list[Any], coalition: Coalition) -> Any:
        return self.update(state, [payloads[i] for i in sorted(coalition)])


def _add_all(state: float, payloads: list[float]) -> float:
    return state + sum(payloads)


def _utility(
    update: Callable[[Any, list[Any]], Any],
    evaluate: Callable[[Any], float],
    state: Any,
    payloads: list[Any],
    coalition: Coalition,
) -> float:
    if coalition:
        state = update(state, [payloads[i] for i in sorted(coalition)])
    return check_finite(evaluate(state), len(coalition))


def _mean_marginals(
    orders: NDArray[np.int64], known: dict[Coalition, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean marginal contributions over the orders, and their standard errors."""
    marginals = np.empty(orders.shape)
    for r, order in enumerate(orders):
        along = [known[frozenset(order[:k].tolist())] for k in range(len(order) + 1)]
        marginals[r, order] = np.diff(along)
    n_orders = len(orders)
    stderr = (
        marginals.std(axis=0, ddof=1) / np.sqrt(n_orders)
        if n_orders > 1
        else np.full(orders.shape[1], np.nan)
    )
    return marginals.mean(axis=0), stderr


def _scores(result: RoundResult, rule: str, seed: np.random.SeedSequence) -> NDArray[np.float64]:
    if rule == "random":
        return np.random.default_rng(seed.spawn(1)[0]).random(len(result.values))
    return {"ads": result.values, "loo": result.loo, "single": result.single}[rule]


def _owners(
    rounds: list[list[Any]], contributors: Sequence[Sequence[Hashable]] | None
) -> list[Sequence[Hashable]]:
    sizes = [len(sources) for sources in rounds]
    if contributors is None:
        ends = np.cumsum(sizes)
        return [range(int(end) - size, int(end)) for end, size in zip(ends, sizes)]
    given: list[Sequence[Hashable]] = [list(names) for names in contributors]
    if [len(names) for names in given] != sizes:
        raise ValueError(
            f"contributors must name an owner for each source, in rounds of {sizes}; "
            f"got {[len(names) for names in given]}"
        )
    return given


def _members(mask: int) -> Coalition:
    return frozenset(i for i in range(mask.bit_length()) if mask >> i & 1)
