"""The paper of this package."""

from mlpapers.core.paper import Paper

DVWU = Paper(
    key="dvwu",
    title="Beyond Uniform Deletion: A Data Value-Weighted Framework for Certified Machine Unlearning",
    authors=["Lisong He", "Yi Yang", "Xiangyu Chang"],
    year=2025,
    venue="arXiv preprint arXiv:2511.06794",
    arxiv="2511.06794",
    package="mlpapers.unlearning",
    summary=(
        "Unlearning treats all rows alike, though they contribute unequally. Here data values become weights "
        "of a one-step Newton removal that is certified by output or objective perturbation, and of gradient "
        "ascent for deep models. Only the abstract and third-party summaries were available: the weighting "
        "formula, three readings of where the weights enter, all bounds and all target figures were derived "
        "and measured for this library, and none of them is the paper's own."
    ),
)
