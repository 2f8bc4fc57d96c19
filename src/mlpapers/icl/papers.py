"""The two papers of this package."""

from mlpapers.core.paper import Paper

ICL_UNLABELED = Paper(
    key="icl-unlabeled",
    title="When and How Unlabeled Data Provably Improve In-Context Learning",
    authors=[
        "Yingcong Li",
        "Xiangyu Chang",
        "Muti Kara",
        "Xiaofeng Liu",
        "Amit Roy-Chowdhury",
        "Samet Oymak",
    ],
    year=2025,
    venue="Advances in Neural Information Processing Systems (NeurIPS)",
    arxiv="2506.15329",
    package="mlpapers.icl",
    summary=(
        "A prompt often has many rows and few labels. One layer of linear attention cannot use the rows "
        "without labels: its best predictor is the mean of the labelled ones. With depth, or with one layer "
        "in a loop, attention applies polynomials of the Gram matrix whose degree grows exponentially, which "
        "is what semi-supervised estimators and expectation-maximisation do; a few layers are enough. The "
        "same recipe helps tabular in-context models: let them label the unlabelled rows softly, put these "
        "rows into the prompt, and loop."
    ),
)

ICL_PROMPTS = Paper(
    key="icl-prompts",
    title="Provable Benefits of Task-Specific Prompts for In-context Learning",
    authors=["Xiangyu Chang", "Yingcong Li", "Muti Kara", "Samet Oymak", "Amit K. Roy-Chowdhury"],
    year=2025,
    venue="International Conference on Artificial Intelligence and Statistics (AISTATS), PMLR 258:1558-1566",
    arxiv="2503.02102",
    package="mlpapers.icl",
    summary=(
        "One linear attention layer serves several families of regressions, each with its own mean and "
        "covariance of coefficients. Without task-specific parameters it must treat means as if they were "
        "variance. A trained prompt per task explains the mean, so that the weights see the covariance only; "
        "a prompt and a head together remove the mean altogether. Training weights and prompts jointly beats "
        "tuning prompts on fixed weights, which beats no prompts; all losses are in closed form."
    ),
)
