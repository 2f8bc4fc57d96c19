"""The plan of a convolution in Triton: how outputs, taps and channels become blocks of a matrix product.

The product wants its operands along the summed dimension, channels and taps. The input is copied with
channels last and with the zeros of its border, the weight by output channel; then every tap is the same block
of addresses shifted by one number. A transposed convolution of stride 1 is a convolution with the taps
reversed. Of stride s along depth or height it is s convolutions side by side, each with some of the taps;
along the width, where neighbours should be written together, a tap meets every s-th output of a block.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from mlpapers.kernels.dsl.statements import power_of_two
from mlpapers.kernels.sketch import Call, Sketch

# Outputs, output channels (at most, where there are fewer than _MANY) and summed elements of a block.
BLOCK = (128, 64, 32)
# Channels are padded to vectors of 16 bytes; the tensor cores' shortest side.
_VECTOR, _SHORTEST = 4, 16
_MANY = 128
# Offsets inside an image are 32 bits wide.
_MOST_ELEMENTS = 1 << 31
TARGET = "aten.convolution.default"


@dataclass(frozen=True)
class Axis:
    """One spatial dimension of a convolution.

    Parameters
    ----------
    size, out, kernel, stride, padding, dilation : int
    transposed : bool
    """

    size: int
    out: int
    kernel: int
    stride: int
    padding: int
    dilation: int
    transposed: bool

    @property
    def apart(self) -> bool:
        """Whether outputs of different remainders by the stride meet different taps."""
        return self.transposed and self.stride > 1

    @property
    def flipped(self) -> bool:
        """Whether the taps are taken in reverse, as a plain convolution."""
        return self.transposed and not self.apart

    @property
    def front(self) -> int:
        """Zeros before the input; a negative number leaves elements out."""
        reach = (self.kernel - 1) * self.dilation - self.padding
        if self.apart:
            return max(0, -(-reach // self.stride))
        return reach if self.transposed else self.padding

    @property
    def count(self) -> int:
        """Outputs of one remainder by the stride, all where outputs are not apart."""
        return -(-self.out // self.stride) if self.apart else self.out

    @property
    def padded(self) -> int:
        """Length of the padded input."""
        if self.apart:
            return self.count + (self.stride - 1 + self.padding) // self.stride + self.front
        return (self.out - 1) * self.step + (self.kernel - 1) * self.dilation + 1

    @property
    def step(self) -> int:
        """Elements of the padded input between neighbouring outputs (of one remainder)."""
        return 1 if self.transposed else self.stride

    @property
    def cycle(self) -> int:
        """Taps between two that one remainder meets."""
        return self.stride // math.gcd(self.stride, self.dilation) if self.apart else 1

    @property
    def advance(self) -> int:
        """Elements of the padded input from one tap to the next."""
        return -self.cycle * self.dilation // self.stride if self.apart else self.dilation


@dataclass(frozen=True)
class Convolution:
    """A convolution and the blocks in which it is computed.

    Parameters
    ----------
    channels, outputs, groups : int
    axes : tuple of three Axis
        Depth, height, width; what a lower rank lacks has size 1.
    transposed : bool
    block : tuple of int
    """

    channels: int
    outputs: int
    groups: int
    axes: tuple[Axis, Axis, Axis]
    transposed: bool
    block: tuple[int, int, int] = BLOCK

    @property
    def group_channels(self) -> int:
        """Input channels of a group."""
        return self.channels // self.groups

    @property
    def group_outputs(self) -> int:
        """Output channels of a group."""
        return self.outputs // self.groups

    @property
    def width(self) -> int:
        """Channels of the copied input."""
        return self.channels if self.groups > 1 else -(-self.channels // _VECTOR) * _VECTOR

    @property
    def joined(self) -> bool:
        """Whether the taps along the width lie side by side with their channels."""
        last = self.axes[2]
        return self.groups == 1 and not last.apart and (last.dilation == 1 or last.kernel == 1)

    @property
    def run(self) -> int:
        """Contiguous summed elements of one tap, or of one row of taps."""
        if self.joined:
            return self.axes[2].kernel * self.width
        return self.width if self.groups == 1 else self.group_channels

    @property
    def depth(self) -> int:
        """Summed elements of a block."""
        return max(_SHORTEST, min(self.block[2], power_of_two(self.run)))

    @property
    def chunks(self) -> int:
        """Blocks of a run."""
        return -(-self.run // self.depth)

    @property
    def columns(self) -> int:
        """Output channels of a block."""
        widest = self.block[1] if self.group_outputs < _MANY else _MANY
        return max(_SHORTEST, min(widest, power_of_two(self.group_outputs)))

    @property
    def tiles(self) -> int:
        """Blocks of output channels of a group."""
        return -(-self.group_outputs // self.columns)

    @property
    def taps(self) -> int:
        """Runs of an output."""
        return self.axes[0].kernel * self.axes[1].kernel * (1 if self.joined else self.axes[2].kernel)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Outputs of one remainder along depth and height, and all along the width."""
        return self.axes[0].count, self.axes[1].count, self.axes[2].out

    @property
    def phases(self) -> tuple[int, int]:
        """Remainders along depth and height."""
        first, second = (a.stride if a.apart else 1 for a in self.axes[:2])
        return first, second

    @property
    def pixels(self) -> int:
        """Outputs of a channel and one pair of remainders."""
        return math.prod(self.counts)

    @property
    def padded(self) -> tuple[int, int, int]:
        """Sizes of the padded input."""
        return self.axes[0].padded, self.axes[1].padded, self.axes[2].padded

    @property
    def macs(self) -> int:
        """Products of an image."""
        axes, inputs = self.axes, self.channels // self.groups
        spots = math.prod(axis.size if self.transposed else axis.out for axis in axes)
        return self.outputs * inputs * spots * math.prod(axis.kernel for axis in axes)


def convolution(
    shape: Sequence[int],
    weight: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    block: tuple[int, int, int] = BLOCK,
) -> Convolution:
    """Return the plan of a convolution by PyTorch's arguments.

    Parameters
    ----------
    shape : sequence of int
        Channels and sizes of the input.
    weight : sequence of int
        Shape of the weight.
    stride, padding, dilation : sequence of int
        One for all dimensions, or one for each.
    transposed : bool
    output_padding : sequence of int
    groups : int
    block : tuple of int

    Returns
    -------
    plan : Convolution
    """
    rank = len(shape) - 1

    def spread(values: Sequence[int], other: int) -> list[int]:
        values = list(values) * rank if len(values) == 1 else list(values)
        return [other] * (3 - rank) + values

    sizes, kernel = spread(shape[1:], 1), spread(weight[2:], 1)
    stride, padding = spread(stride, 1), spread(padding, 0)
    dilation, more = spread(dilation, 1), spread(output_padding, 0)
    axes = []
    for n, k, s, p, d, e in zip(sizes, kernel, stride, padding, dilation, more):
        reach = d * (k - 1) + 1
        out = (n - 1) * s - 2 * p + reach + e if transposed else (n + 2 * p - reach) // s + 1
        axes.append(Axis(n, out, k, s, p, d, transposed))
    outputs = weight[1] * groups if transposed else weight[0]
    return Convolution(shape[0], outputs, groups, (axes[0], axes[1], axes[2]), transposed, block)


def plan_of(sketch: Sketch, call: Call) -> Convolution | None:
    """Return the plan of a library call, None where it is no convolution of ours.

    Ours take dense tensors of float32 whose sizes, but for the number of images, are known.

    Parameters
    ----------
    sketch : Sketch
    call : Call

    Returns
    -------
    plan : Convolution or None
    """
    spec = json.loads(call.spec)
    if call.target != TARGET or spec["kwargs"] or "memory" in spec or len(call.dst) != 1:
        return None
    args = spec["args"]
    if args[:2] != ["%0", "%1"] or args[2] not in (None, "%2"):
        return None
    if any(sketch.view(name) is not None or sketch.tensor(name).dtype != "f32" for name in call.args):
        return None
    shape, weight = (sketch.tensor(name).dims for name in call.args[:2])
    numbers = [value for item in args[3:] for value in (item if isinstance(item, list) else [item])]
    known = all(dim.isdigit() for dim in (*shape[1:], *weight)) and all(isinstance(v, int) for v in numbers)
    if not known or not 3 <= len(shape) <= 5 or len(shape) != len(weight):
        return None
    stride, padding, dilation, transposed, output_padding, groups = args[3:]
    plan = convolution(
        [int(dim) for dim in shape[1:]],
        [int(dim) for dim in weight],
        stride,
        padding,
        dilation,
        bool(transposed),
        output_padding,
        groups,
    )
    sizes = [
        plan.channels * math.prod(axis.size for axis in plan.axes),
        plan.outputs * math.prod(axis.out for axis in plan.axes),
        plan.width * math.prod(plan.padded),
    ]
    return plan if min(sizes) > 0 and max(sizes) < _MOST_ELEMENTS else None
