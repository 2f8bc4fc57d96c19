"""An assertion that ``python -O`` keeps."""


def require(condition: bool, message: str) -> None:
    """Raise an AssertionError with `message` unless `condition`."""
    if not condition:
        raise AssertionError(message)
