"""Running one claim as a test."""

from __future__ import annotations

import math

from mlpapers.core._figure import draw_svg
from mlpapers.core.paper import Claim, Evidence, Scale

_TABLE_ROWS = 12


class ClaimFailure(AssertionError):
    """A claim ran and does not hold; its text lists every measurement against its target.

    Parameters
    ----------
    claim : Claim
    evidence : Evidence
        What the claim measured.
    """

    def __init__(self, claim: Claim, evidence: Evidence) -> None:
        super().__init__(claim, evidence)
        self.claim = claim
        self.evidence = evidence

    def __str__(self) -> str:
        claim, evidence = self.claim, self.evidence
        verdict = "measured something that is not finite" if claim.timed else "does not hold"
        lines = [f"{claim.id} {verdict} ({claim.source}): {claim.statement}"]
        lines += [f"  {measurement}" for measurement in evidence.measurements]
        if evidence.notes:
            lines.append(f"  notes: {evidence.notes}")
        if evidence.table is not None:
            rows = len(evidence.table)
            lines.append(f"  table ({min(rows, _TABLE_ROWS)} of {rows} rows):")
            lines += [f"    {line}" for line in evidence.table.head(_TABLE_ROWS).to_string().splitlines()]
        return "\n".join(lines)


def check_claim(claim: Claim, scale: Scale = "quick", seed: int = 0) -> Evidence:
    """Run `claim`, draw its figure off screen, and raise unless it holds.

    A claim that asserts speed (``timed=True``) need not hold, for machines are noisy; its measurements must
    be finite. Requirements and known misses are the caller's business: nothing is skipped here.

    Parameters
    ----------
    claim : Claim
    scale : {"quick", "full"}
    seed : int

    Returns
    -------
    evidence : Evidence

    Raises
    ------
    ClaimFailure
        If the claim does not hold.

    Examples
    --------
    >>> import mlpapers
    >>> from mlpapers.testing import check_claim
    >>> [paper] = [paper for paper in mlpapers.papers() if paper.key == "selective-attention"]
    >>> [claim] = [claim for claim in paper.claims if claim.id == "selective-attention/a-bound"]
    >>> evidence = check_claim(claim)
    >>> evidence.holds
    True
    """
    evidence = claim.run(scale, seed)
    if evidence.figure is not None:
        draw_svg(evidence.figure, claim.id)
    if claim.timed:
        passed = all(math.isfinite(measurement.value) for measurement in evidence.measurements)
    else:
        passed = evidence.holds
    if not passed:
        raise ClaimFailure(claim, evidence)
    return evidence
