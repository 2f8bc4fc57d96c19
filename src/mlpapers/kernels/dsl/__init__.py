"""Kernel languages: one folder each, and the table of those that are known."""

from mlpapers.core._lazy import attach

_NAMES = (
    "DSL", "Backend", "BuildError", "DSLUnavailable", "Hardware", "get_backend", "get_dsl", "list_backends",
    "list_dsls", "register_backend", "register_dsl", "resolve",
)  # fmt: skip
__getattr__, __dir__, _names = attach(__name__, dict.fromkeys(_NAMES, "base"))
