"""What the classifiers share that train an ordinary model at last, on targets and weights of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.fairness._base import FairClassifier, check_classifier
from mlpapers.fairness._posteriors import append_cells, takes_weights

__all__ = ["FinalStageClassifier"]


class FinalStageClassifier(FairClassifier):
    """Base of the classifiers with a `final_estimator`, which defaults to their `estimator`."""

    final_estimator: Any

    def _final_estimator(self) -> Any:
        return self._estimator() if self.final_estimator is None else self.final_estimator

    def _check_final_estimator(self, *, weighted: bool = True) -> None:
        check_classifier("final_estimator", self.final_estimator, None)
        if weighted and not takes_weights(self._final_estimator()):
            raise TypeError(
                f"final_estimator must take sample_weight in fit; got {self._final_estimator()!r}"
            )

    def _final_inputs(self, X: Any, codes: NDArray[np.int64] | None) -> Any:
        if not self.attribute_aware or codes is None:
            return X
        return append_cells(X, codes, self.groups_.n_cells)
