"""The paper of this package."""

from mlpapers.core.paper import Paper

AKG_KERNEL_AGENT = Paper(
    key="akg-kernel-agent",
    title="AKG kernel Agent: A Multi-Agent Framework for Cross-Platform Kernel Synthesis",
    authors=[
        "J. Du", "Q. Yuan", "Z. Zhang", "Y. Yi", "J. Hu", "W. Chen", "Y. Zhu", "Q. Zheng", "W. Zou",
        "X. Chang",
        "Z. Zheng", "Z. Ye", "C. Liu", "S. Li", "R. Zhang", "Y. Deng", "X. Hu", "X. Jin", "J. Zhao",
    ],
    year=2025,
    venue="arXiv preprint arXiv:2512.23424",
    arxiv="2512.23424",
    package="mlpapers.kernels",
    summary=(
        "A kernel generator of four agents. A designer turns a PyTorch module into a sketch that says what "
        "is "
        "loaded, computed and stored in which loops; a coder renders the sketch in a kernel language; a "
        "verifier "
        "builds it, compares it and times it; a conductor decides by the kind of error who works next, and a "
        "search tunes what is right. Here every agent has a path by rules that needs no language model, "
        "and the "
        "verifier judges against float64 and a catalogue of reward hacks."
    ),
)  # fmt: skip
