"""The paper of this package."""

from mlpapers.core.paper import Paper

SELECTIVE_ATTENTION = Paper(
    key="selective-attention",
    title="Selective Attention: Enhancing Transformer through Principled Context Control",
    authors=[
        "Xuechen Zhang",
        "Xiangyu Chang",
        "Mingchen Li",
        "Amit Roy-Chowdhury",
        "Jiasi Chen",
        "Samet Oymak",
    ],
    year=2024,
    venue="Advances in Neural Information Processing Systems 37",
    arxiv="2411.12892",
    package="mlpapers.attention",
    summary=(
        "Softmax attention treats every query alike: how spiky its map is depends on the norm of the "
        "weights, and "
        "with more tokens it grows flatter. Selective self-attention gives every query and every value an "
        "inverse "
        "temperature that depends on the token and on its position. Folded into query and value it costs "
        "elementwise products alone, adds less than half a percent of parameters, and can be put into a "
        "trained "
        "model without changing it at first."
    ),
)
