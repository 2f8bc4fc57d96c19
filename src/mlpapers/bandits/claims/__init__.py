"""The claims of the paper, by what they are about."""

from mlpapers.bandits.claims import applications as applications
from mlpapers.bandits.claims import concave as concave
from mlpapers.bandits.claims import smooth as smooth
