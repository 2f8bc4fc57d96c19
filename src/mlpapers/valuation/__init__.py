"""Data valuation: what each training point, source or seller is worth to a model.

Two papers share this room. Asymmetric data Shapley (``KNNShapley``, ``AsymmetricShapley``) respects the order
in which data arrived, so that copies and later batches are not paid with the money of the originals.
U-statistic inference (``UStatisticShapley``) puts confidence intervals on data values. Around them: games and
utilities, baselines, value curves, sequential rounds, and a data market.
"""

from typing import TYPE_CHECKING

from mlpapers.core._lazy import attach

if TYPE_CHECKING:
    from mlpapers.datasets import load_adult as load_adult
    from mlpapers.datasets import load_mnist5k as load_mnist5k
    from mlpapers.valuation.aggregate import aggregate_values as aggregate_values
    from mlpapers.valuation.asymmetric import AsymmetricShapley as AsymmetricShapley
    from mlpapers.valuation.asymmetric import DataShapley as DataShapley
    from mlpapers.valuation.baselines import BetaShapley as BetaShapley
    from mlpapers.valuation.baselines import DataBanzhaf as DataBanzhaf
    from mlpapers.valuation.baselines import LeaveOneOut as LeaveOneOut
    from mlpapers.valuation.curves import CurveResult as CurveResult
    from mlpapers.valuation.curves import intervention_curves as intervention_curves
    from mlpapers.valuation.curves import point_addition_curve as point_addition_curve
    from mlpapers.valuation.curves import point_removal_curve as point_removal_curve
    from mlpapers.valuation.fedavg import FedAvgUpdate as FedAvgUpdate
    from mlpapers.valuation.game import exact_shapley as exact_shapley
    from mlpapers.valuation.game import harsanyi_dividends as harsanyi_dividends
    from mlpapers.valuation.knn import KNNShapley as KNNShapley
    from mlpapers.valuation.knn import knn_loo as knn_loo
    from mlpapers.valuation.market import DataMarket as DataMarket
    from mlpapers.valuation.market import Offer as Offer
    from mlpapers.valuation.market import posted_price as posted_price
    from mlpapers.valuation.noise import detect_noisy_labels as detect_noisy_labels
    from mlpapers.valuation.permutation import required_permutations as required_permutations
    from mlpapers.valuation.result import ValuationResult as ValuationResult
    from mlpapers.valuation.rounds import RoundResult as RoundResult
    from mlpapers.valuation.rounds import SequentialResult as SequentialResult
    from mlpapers.valuation.sequential import SequentialShapley as SequentialShapley
    from mlpapers.valuation.uncertainty import UStatisticResult as UStatisticResult
    from mlpapers.valuation.ustatistic import UStatisticShapley as UStatisticShapley
    from mlpapers.valuation.utility import Utility as Utility
    from mlpapers.valuation.variance import recommend_variance as recommend_variance

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "AsymmetricShapley": "asymmetric",
        "BetaShapley": "baselines",
        "CurveResult": "curves",
        "DataBanzhaf": "baselines",
        "DataMarket": "market",
        "DataShapley": "asymmetric",
        "FedAvgUpdate": "fedavg",
        "KNNShapley": "knn",
        "LeaveOneOut": "baselines",
        "Offer": "market",
        "RoundResult": "rounds",
        "SequentialResult": "rounds",
        "SequentialShapley": "sequential",
        "UStatisticResult": "uncertainty",
        "UStatisticShapley": "ustatistic",
        "Utility": "utility",
        "ValuationResult": "result",
        "aggregate_values": "aggregate",
        "detect_noisy_labels": "noise",
        "exact_shapley": "game",
        "harsanyi_dividends": "game",
        "intervention_curves": "curves",
        "knn_loo": "knn",
        "posted_price": "market",
        "load_adult": "mlpapers.datasets",
        "load_mnist5k": "mlpapers.datasets",
        "point_addition_curve": "curves",
        "point_removal_curve": "curves",
        "recommend_variance": "variance",
        "required_permutations": "permutation",
    },
)
