"""What a loaded kernel's class has beyond its source: the task's weights, and an error for gradients."""

from __future__ import annotations

import functools
from typing import Any

import torch

from mlpapers.kernels.task import LiveModule

_NO_GRADIENTS = (
    "a generated kernel has no backward pass: call it under torch.no_grad(), or take gradients through the "
    "module that it was made from"
)


def carry_weights(kind: Any, live: LiveModule) -> None:
    """Let the constructor of a class take over what a module in memory holds.

    The source has no numbers of its own. Of an instance the class takes the weights, the buffers and the
    mode; of a class those that its constructor makes of the same arguments.

    Parameters
    ----------
    kind : type
        ``ModelNew``.
    live : LiveModule
    """
    construct = kind.__init__

    @functools.wraps(construct)
    def constructor(self: Any, *arguments: Any, **options: Any) -> None:
        construct(self, *arguments, **options)
        given = live.module(*arguments, **options) if isinstance(live.module, type) else live.module
        state = given.state_dict()
        self.load_state_dict(state)
        self.train(given.training)
        mine = dict(self.named_buffers())
        for name, buffer in given.named_buffers():
            # A kernel that somebody wrote may keep other buffers under these names.
            if name not in state and name in mine and mine[name].shape == buffer.shape:
                mine[name].copy_(buffer)

    kind.__init__ = constructor


class _ForwardOnly(torch.autograd.Function):
    """A call whose results require gradients that nobody can compute: ``backward`` says so."""

    @staticmethod
    def forward(ctx: Any, call: Any, *tensors: Any) -> Any:  # noqa: ARG004 - autograd looks at them
        return call()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:  # noqa: ARG004
        raise RuntimeError(_NO_GRADIENTS)


def refuse_gradients(kind: Any) -> None:
    """Let ``backward`` through ``forward`` of a class raise RuntimeError, as operators without a formula do.

    Where gradients are on and an argument or a parameter requires them, so do the results; as constants they
    would leave what comes before the kernel untrained without a word.

    Parameters
    ----------
    kind : type
        ``ModelNew``.
    """
    forward = kind.forward

    @functools.wraps(forward)
    def watched(self: Any, *arguments: Any, **options: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(self, *arguments, **options)
        tensors = [x for x in (*arguments, *options.values()) if isinstance(x, torch.Tensor)]
        tensors += self.parameters()
        if not any(x.requires_grad for x in tensors):
            return forward(self, *arguments, **options)
        as_list = False

        def call() -> Any:
            nonlocal as_list
            output = forward(self, *arguments, **options)
            as_list = isinstance(output, list)
            return tuple(output) if as_list else output

        output = _ForwardOnly.apply(call, *tensors)
        return list(output) if as_list else output

    kind.forward = watched
