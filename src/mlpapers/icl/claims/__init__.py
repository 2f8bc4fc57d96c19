"""The claims of both papers; importing the modules registers them."""

from mlpapers.icl.claims import prompts as prompts
from mlpapers.icl.claims import unlabeled_depth as unlabeled_depth
from mlpapers.icl.claims import unlabeled_tables as unlabeled_tables
from mlpapers.icl.claims import unlabeled_theory as unlabeled_theory
