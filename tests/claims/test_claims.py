"""Every claim of every paper, at scale "quick", through the same code as ``pytest --mlpapers-claims``.

Claims that share expensive inputs find them computed: one process runs them all, in registry order.
"""

import pytest

from mlpapers.core.paper import find_claims
from mlpapers.testing.plugin import claim_marks, run_claim


@pytest.mark.parametrize(
    "claim", [pytest.param(claim, id=claim.id, marks=claim_marks(claim)) for claim in find_claims()]
)
def test_claim(claim):
    run_claim(claim, "quick")
