"""Saving a fitted estimator, secrets included, and reading it back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from mlpapers.core.result import ResultFormatError
from mlpapers.unlearning import _persistence as persistence
from mlpapers.unlearning._base import FittedState
from mlpapers.unlearning._engine import Engine
from mlpapers.unlearning._settings import Settings
from mlpapers.unlearning.log import DeletionLog


class SavedState(FittedState):
    """The state file of an estimator."""

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the whole state, secrets included, to one file (npz with a JSON manifest, no pickle).

        Parameters
        ----------
        path : str or path
            Used as it is. The file is replaced atomically and is durable on return.

        Returns
        -------
        path : Path

        Raises
        ------
        TypeError
            If a parameter cannot be saved: a callable, which needs a registered name.
        """
        check_is_fitted(self, "_model")
        rows, arrays = persistence.pack_rows(self._rows)
        model, model_arrays = persistence.pack_model(self._model)
        arrays = {**arrays, **model_arrays, "coef": self.coef_, "intercept": np.asarray(self.intercept_)}
        if self._X_val is not None:
            arrays["X_val"] = self._X_val
        labels = {
            name: persistence.pack_labels(getattr(self, name))
            for name in ("classes_", "feature_names_in_", "_y_val")
            if getattr(self, name, None) is not None
        }
        manifest = {
            "class": type(self).__name__,
            "params": persistence.check_saveable(self.get_params(deep=False)),
            "settings": persistence.pack_settings(self._settings),
            "rows": rows,
            "model": model,
            "labels": labels,
            "requests": [persistence.pack_result(result) for result in self._requests.values()],
            "entropy": self._entropy,
            "norm_bound": self.norm_bound_,
            "n_features_in": self.n_features_in_,
            "n_iter": self.n_iter_,
            "has_values": self._has_values,
        }
        persistence.write_state(path, manifest, arrays)
        return Path(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read an estimator that :meth:`save` wrote; no code from the file is run.

        Raises
        ------
        ResultFormatError
            If the file is damaged, is no saved estimator, or holds one of another class.
        FileNotFoundError
            If there is no such file.
        """
        manifest, arrays = persistence.read_state(path)
        if manifest["class"] != cls.__name__:
            raise ResultFormatError(f"{path} holds a {manifest['class']}, not a {cls.__name__}")
        new = cls(**manifest["params"])
        new._settings = Settings(**manifest["settings"])
        new.norm_bound_ = manifest["norm_bound"]
        new.noise_scale_ = new._settings.noise_scale
        new._engine = Engine(new._settings, new.norm_bound_, new.n_jobs)
        new._rows = persistence.unpack_rows(manifest["rows"], arrays)
        new._model = persistence.unpack_model(manifest["model"], arrays)
        new._account = new._engine.account(new._model)
        new._X_val, new._y_val = arrays.get("X_val"), None
        for name, labels in manifest["labels"].items():
            setattr(new, name, persistence.unpack_labels(labels))
        results = [persistence.unpack_result(entry) for entry in manifest["requests"]]
        new._requests = {result.request_id: result for result in results}
        new._entropy = manifest["entropy"]
        new._has_values = manifest["has_values"]
        new.n_features_in_, new.n_iter_ = manifest["n_features_in"], manifest["n_iter"]
        new.coef_, new.intercept_ = arrays["coef"], arrays["intercept"][()]
        new._own_files()
        new.log_ = None if new.log_path is None else DeletionLog(new.log_path)
        return new
