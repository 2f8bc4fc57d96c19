"""The claims of the paper, by what they are about."""

from mlpapers.optim.claims import attacks as attacks
from mlpapers.optim.claims import complexity as complexity
from mlpapers.optim.claims import experiments as experiments
from mlpapers.optim.claims import variance as variance
