"""What callers and modules of torch hand over: tensors and arrays. Torch is not imported here."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray


def is_tensor(value: Any) -> bool:
    """Whether `value` is a torch tensor; torch is not imported for the answer."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def plain_array(values: Any) -> NDArray[Any]:
    """Return an array; objects, as of pandas' nullable columns, become the type that their values have."""
    array = np.asarray(values)
    return np.asarray(array.tolist()) if array.dtype.kind == "O" else array


def check_class_numbers(outputs: Any, targets: Any) -> None:
    """ValueError unless integer targets number the columns (dimension 1) of a model's `outputs`.

    -100 is left to torch, whose cross-entropy passes over it.
    """
    if outputs.ndim < 2:
        raise ValueError(
            "y holds class numbers, for which the model must have one output column per class; "
            f"its outputs have shape {tuple(outputs.shape)}"
        )
    n_classes = outputs.shape[1]
    wrong = ((targets < 0) & (targets != -100)) | (targets >= n_classes)
    if bool(wrong.any()):
        raise ValueError(
            f"y must hold class numbers from 0 to {n_classes - 1}, the model's output columns; "
            f"got {int(targets[wrong][0])}"
        )


def call_model(model: Any, x: Any) -> Any:
    """Return the tensor ``model(x)``; ValueError that names X where its shape or type does not fit."""
    try:
        outputs = model(x)
    except RuntimeError as error:
        text = str(error)
        if not any(word in text for word in ("shape", "size", "dtype", "scalar type", "dimension")):
            raise
        got = f"shape {tuple(x.shape)} of {x.dtype}" if is_tensor(x) else type(x).__name__
        raise ValueError(f"X must hold rows that the model takes; it failed on {got}: {text}") from error
    if not is_tensor(outputs):
        raise TypeError(f"model must return a tensor; got {type(outputs).__name__}")
    return outputs
