"""The claims of both papers; importing the modules registers them."""

from mlpapers.valuation.claims import asymmetric as asymmetric
from mlpapers.valuation.claims import asymmetric_interventions as asymmetric_interventions
from mlpapers.valuation.claims import asymmetric_markets as asymmetric_markets
from mlpapers.valuation.claims import asymmetric_rounds as asymmetric_rounds
from mlpapers.valuation.claims import ustatistic as ustatistic
