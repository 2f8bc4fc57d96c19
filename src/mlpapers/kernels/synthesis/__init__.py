"""The rule synthesiser: graphs to sketches by templates, one module per template family."""

from mlpapers.core._lazy import attach

__getattr__, __dir__, _names = attach(
    __name__,
    {
        "bucket": "synthesise",
        "candidate": "synthesise",
        "design": "synthesise",
        "synthesise": "synthesise",
    },
)
