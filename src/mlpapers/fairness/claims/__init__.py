"""The claims; importing the modules registers them."""

from mlpapers.fairness.claims import comparison as comparison
from mlpapers.fairness.claims import identities as identities
from mlpapers.fairness.claims import optimum as optimum
from mlpapers.fairness.claims import procedures as procedures
from mlpapers.fairness.claims import trade_offs as trade_offs
