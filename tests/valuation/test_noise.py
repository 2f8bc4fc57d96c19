"""Mislabelled points are those of lowest value."""

import numpy as np
import pandas as pd
import pytest

from mlpapers.valuation import detect_noisy_labels


def test_noisy_labels_are_those_of_lowest_value():
    values = np.array([0.5, -1.0, 0.0, -1.0, -0.2])
    assert detect_noisy_labels(values).tolist() == [1, 3, 4]
    assert detect_noisy_labels(values, n_flag=2).tolist() == [1, 3]
    assert detect_noisy_labels(values, n_flag=0).tolist() == []
    assert detect_noisy_labels(values, threshold=0.4).tolist() == [1, 3, 4, 2]
    assert detect_noisy_labels(pd.Series(values), n_flag=1).tolist() == [1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_flag": 2, "threshold": 0.0}, "must not both"),
        ({"n_flag": 6}, "n_flag"),
        ({"n_flag": -1}, "n_flag"),
        ({"threshold": np.nan}, "threshold"),
    ],
)
def test_detection_errors(options, message):
    with pytest.raises(ValueError, match=message):
        detect_noisy_labels([0.5, -1.0, 0.0, -1.0, -0.2], **options)
