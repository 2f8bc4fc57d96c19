"""Numbers for JSON, which has no NaN and no infinity."""

from __future__ import annotations

import math
from typing import Any


def json_number(value: Any) -> Any:
    """Return `value` for JSON: None for a number that is not finite, a list for a tuple."""
    if isinstance(value, tuple):
        return [json_number(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
