"""What a valuer with standard errors says about them: intervals, normality, a ranking and a table."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import shapiro
from sklearn.utils.validation import check_is_fitted

from mlpapers.core.validation import check_real
from mlpapers.valuation._base import ValuerMixin
from mlpapers.valuation.variance import ks_distance


class IntervalMixin(ValuerMixin):
    """Methods of a fitted valuer that has `targets_`, `stderr_`, `zeta_tot_`, and `batch_means_`."""

    n_subsets: int
    confidence: float
    targets_: NDArray[np.int64]
    stderr_: NDArray[np.float64]
    zeta_tot_: NDArray[np.float64]
    batch_means_: NDArray[np.float64]

    def confidence_interval(
        self, confidence: float = 0.95
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        r"""Return the two-sided normal interval :math:`\hat\theta \pm z_{(1 + c)/2} \sqrt V` of each target.

        Parameters
        ----------
        confidence : float, default=0.95
            c, in (0, 1).

        Returns
        -------
        low, high : ndarray of shape (T,)
        """
        check_is_fitted(self, "values_")
        reach = two_sided_quantile(confidence) * self.stderr_
        return self.values_ - reach, self.values_ + reach

    def normality_test(self) -> pd.DataFrame:
        """Test whether batch means of the kernel are normal, as the intervals suppose.

        Returns
        -------
        pandas.DataFrame, one row per target, with the columns

        index : the training point
        shapiro_p : p-value of the Shapiro-Wilk test of normality of the batch means
        ks_distance : Kolmogorov-Smirnov distance of the studentised batch means to N(0, 1)
        n_batches : floor(sqrt(n_subsets))

        Both are NaN for a target whose kernel is constant.

        Raises
        ------
        NotFittedError
            If the valuer is not fitted.
        ValueError
            If `n_subsets` is below 9, which gives fewer than 3 batches.
        """
        check_is_fitted(self, "values_")
        means = self.batch_means_
        if len(means) < 3:
            raise ValueError(f"n_subsets must be at least 9 for a test of normality; got {self.n_subsets}")
        p_values, distances = np.full((2, means.shape[1]), np.nan)
        for t in np.flatnonzero(self.zeta_tot_ > 0.0):
            studentised = (means[:, t] - means[:, t].mean()) / means[:, t].std(ddof=1)
            p_values[t] = shapiro(studentised).pvalue
            distances[t] = ks_distance(studentised)
        return pd.DataFrame(
            {
                "index": self.targets_,
                "shapiro_p": p_values,
                "ks_distance": distances,
                "n_batches": len(means),
            }
        )

    def ranking(self) -> NDArray[np.int64]:
        """Return the valued training points, most valuable first; ties by position in `targets_`."""
        best_first = super().ranking()
        return self.targets_[best_first]

    def to_frame(self, confidence: float | None = None) -> pd.DataFrame:
        """Return one row per target: index, group, value, stderr, ci_low, ci_high.

        Parameters
        ----------
        confidence : float or None, default=None
            Level of the interval; None is that of the valuer, as for `ci_low_` and `ci_high_`.

        Returns
        -------
        pandas.DataFrame of T rows
        """
        level = self.confidence if confidence is None else confidence
        return super().to_frame(level).assign(index=self.targets_)


def two_sided_quantile(confidence: float) -> float:
    """Return the normal quantile of (1 + c)/2; ValueError unless c lies in (0, 1)."""
    c = check_real("confidence", confidence, low=0.0, high=1.0, closed="neither")
    return float(ndtri(0.5 * (1.0 + c)))
