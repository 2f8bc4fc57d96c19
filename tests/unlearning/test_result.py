"""Receipts keep the promises of every result."""

import pytest

from mlpapers.testing import check_result


@pytest.mark.parametrize("perturbation", ["objective", "output", "none"])
def test_receipts(classify, perturbation):
    result = classify(perturbation=perturbation).unlearn([4, 2])
    check_result(result)
    frame = result.to_frame()
    assert frame["indices"].tolist() == [(4, 2)]
    assert frame["residual_bound"].item() == result.residual_bound
    names = [label.get_text() for label in result.plot().get_yticklabels()]
    assert ("gap budget" in names) == (perturbation == "output")


def test_reanchoring_has_a_receipt(classify):
    result = classify().reanchor()
    check_result(result)
    assert (result.action, result.n_removed, result.n_remaining) == ("reanchor", 0, 200)
