"""Convolutions in Triton: copies of input and weight, and the product over taps and channels.

Sizes are written into the functions; the number of images is that of the grid.
"""

from __future__ import annotations

import math

from mlpapers.kernels.dsl.statements import power_of_two
from mlpapers.kernels.dsl.triton.convolution import Axis, Convolution
from mlpapers.kernels.dsl.triton.depthwise import WARPS, is_depthwise, plane_function, plane_programs
from mlpapers.kernels.dsl.triton.function import function_text

# Elements of a block of the copied input, the most channels in it, and elements of one of the weight.
_COPIED, _DEEPEST, _WEIGHTS = 4096, 64, 1024
# Products per image from which the copies are worth their launches.
_LARGE = 1 << 27


def input_block(c: Convolution) -> tuple[int, int]:
    """Return positions and channels of a block of the copied input."""
    deep = min(power_of_two(c.width), _DEEPEST)
    return max(min(power_of_two(c.padded[2]), _COPIED // deep), 16), deep


def input_size(c: Convolution) -> int:
    """Return the elements per image of the copied input."""
    return math.prod(c.padded) * c.width


def input_programs(c: Convolution) -> int:
    """Return the programs per image of the copy of the input."""
    across, deep = input_block(c)
    return c.padded[0] * c.padded[1] * -(-c.padded[2] // across) * -(-c.width // deep)


def input_function(name: str, c: Convolution) -> str:
    """Return the function that copies the input with channels last and zeros around it.

    Parameters
    ----------
    name : str
    c : Convolution

    Returns
    -------
    text : str
    """
    (dp, hp, wp), (d, h, w) = c.padded, (axis.size for axis in c.axes)
    across, deep = input_block(c)
    blocks, bands = -(-wp // across), -(-c.width // deep)
    front = [axis.front for axis in c.axes]
    body = [
        "pid = tl.program_id(0)",
        f"c = (pid % {bands}) * {deep} + tl.arange(0, {deep})[None, :]",
        f"pid = pid // {bands}",
        f"column = (pid % {blocks}) * {across} + tl.arange(0, {across})[:, None]",
        f"row = (pid // {blocks}).to(tl.int64)",
        f"sh = row % {hp} - {front[1]}",
        f"sd = row // {hp} % {dp} - {front[0]}",
        f"image = row // {hp * dp}",
        f"sw = column - {front[2]}",
        f"there = (sw >= 0) & (sw < {w}) & (sh >= 0) & (sh < {h}) & (sd >= 0) & (sd < {d})",
        f"there = there & (c < {c.channels})",
        f"place = image * {c.channels * d * h * w} + (sd * {h} + sh) * {w}",
        f"x = tl.load(p_x + place + (c * {d * h * w} + sw), mask=there, other=0.0)",
        "x = _rounded(x) if ROUND else x",
        f"place = p_y + row * {wp * c.width} + (column * {c.width} + c)",
        f"tl.store(place, x, mask=(column < {wp}) & (c < {c.width}))",
    ]
    return function_text(name, ["p_x", "p_y", "ROUND: tl.constexpr"], body)


def weight_size(c: Convolution) -> int:
    """Return the elements of the copied weight."""
    return c.groups * c.tiles * c.columns * c.taps * c.chunks * c.depth


def weight_programs(c: Convolution) -> int:
    """Return the programs of the copy of the weight."""
    return -(-weight_size(c) // _WEIGHTS)


def weight_function(name: str, c: Convolution) -> str:
    """Return the function that copies the weight: by output a row of taps and channels, filled with zeros.

    Parameters
    ----------
    name : str
    c : Convolution

    Returns
    -------
    text : str
    """
    kernel = [axis.kernel for axis in c.axes]
    taps = [
        f"({axis.kernel - 1} - k{letter})" if axis.flipped else f"k{letter}"
        for letter, axis in zip("dhw", c.axes)
    ]
    if c.joined:
        inside = [f"kw = i // {c.width}", f"c = i % {c.width}"]
    else:
        inside = ["c = i", f"kw = tap % {kernel[2]}", f"tap = tap // {kernel[2]}"]
    lead = f"(g * {c.group_outputs} + o) * {c.group_channels} + c"
    if c.transposed:
        lead = f"(g * {c.group_channels} + c) * {c.group_outputs} + o"
    place = f"((({lead}) * {kernel[0]} + {taps[0]}) * {kernel[1]} + {taps[1]}) * {kernel[2]} + {taps[2]}"
    run, size = c.chunks * c.depth, weight_size(c)
    body = [
        f"e = tl.program_id(0) * {_WEIGHTS} + tl.arange(0, {_WEIGHTS})",
        f"i = e % {run}",
        f"tap = e // {run} % {c.taps}",
        f"o = e // {run * c.taps} % {c.tiles * c.columns}",
        f"g = e // {run * c.taps * c.tiles * c.columns}",
        *inside,
        f"kh = tap % {kernel[1]}",
        f"kd = tap // {kernel[1]}",
        f"there = (o < {c.group_outputs}) & (c < {c.group_channels}) & (kw < {kernel[2]}) & (e < {size})",
        f"x = tl.load(p_w + ({place}), mask=there, other=0.0)",
        f"tl.store(p_y + e, _rounded(x) if ROUND else x, mask=e < {size})",
    ]
    return function_text(name, ["p_w", "p_y", "ROUND: tl.constexpr"], body)


def product_programs(c: Convolution) -> int:
    """Return the programs per image of the product."""
    return math.prod(c.phases) * -(-c.pixels // c.block[0]) * c.groups * c.tiles


def product_function(name: str, c: Convolution, bias: bool) -> str:
    """Return the function of the product, a program for a block of outputs and output channels.

    Parameters
    ----------
    name : str
    c : Convolution
    bias : bool

    Returns
    -------
    text : str
    """
    rows, columns = c.block[0], c.columns
    (od, oh, ow), (_, qh, qw) = (axis.out for axis in c.axes), c.counts
    blocks = -(-c.pixels // rows)
    turns, loop = _turn(c)
    row = c.taps * c.chunks * c.depth
    body = [
        "pid = tl.program_id(0)",
        f"column = pid % {c.groups * c.tiles}",
        f"pid = pid // {c.groups * c.tiles}",
        f"m = (pid % {blocks}) * {rows} + tl.arange(0, {rows})",
        f"pid = pid // {blocks}",
        f"rh = pid % {c.phases[1]}",
        f"rd = pid // {c.phases[1]} % {c.phases[0]}",
        f"image = (pid // {c.phases[0] * c.phases[1]}).to(tl.int64)",
        f"group = column // {c.tiles}",
        f"o = (column % {c.tiles}) * {columns} + tl.arange(0, {columns})",
        # What lies beyond the last output computes it again and is not stored.
        f"p = tl.minimum(m, {c.pixels - 1})",
        f"qw = p % {qw}",
        f"qh = p // {qw} % {qh}",
        f"qd = p // {qw * qh}",
        f"k = tl.arange(0, {c.depth})",
        *_taps("d", c.axes[0]),
        *_taps("h", c.axes[1]),
        f"x = p_x + image * {input_size(c)} + group * {c.group_channels}",
        f"w = p_w + (group * {c.tiles * columns} + o)[None, :] * {row} + k[:, None]",
        f"line = (qd * {c.axes[0].step} + jd) * {c.padded[1]} + qh * {c.axes[1].step} + jh",
        f"line = line * {c.padded[2] * c.width}",
        f"acc = tl.zeros(({rows}, {columns}), tl.float32)",
        f"for t in range(0, td * th * {turns}):",
        *(f"    {text}" for text in loop),
        # Transposed, so that neighbouring lanes store neighbouring outputs.
        "y = tl.trans(acc)",
    ]
    if bias:
        known = f"mask=o < {c.group_outputs}, other=0.0"
        body.append(f"y += tl.load(p_b + group * {c.group_outputs} + o, {known})[:, None]")
    there = [f"(m < {c.pixels})[None, :]"] if c.pixels % rows else []
    there += [f"(o < {c.group_outputs})[:, None]"] if c.tiles * columns != c.group_outputs else []
    if c.phases == (1, 1):
        body.append("spot = m")
    else:
        body += [f"sd = qd * {c.phases[0]} + rd", f"sh = qh * {c.phases[1]} + rh"]
        body.append(f"spot = (sd * {oh} + sh) * {ow} + qw")
        there.append(f"((sd < {od}) & (sh < {oh}))[None, :]")
    mask = f", mask={' & '.join(there)}" if there else ""
    body += [
        f"p_y += (image * {c.outputs} + group * {c.group_outputs}) * {od * oh * ow}",
        f"tl.store(p_y + (o[:, None] * {od * oh * ow} + spot[None, :]), y{mask})",
    ]
    pointers = ["p_x", "p_w", *(["p_b"] if bias else []), "p_y"]
    return function_text(name, [*pointers, "HOW: tl.constexpr"], body)


def _turn(c: Convolution) -> tuple[int, list[str]]:
    """Return the turns of the product's loop per tap of depth and height, and the statements of one."""
    deep, high, wide = c.axes
    _, hp, wp = c.padded
    turns = 1 if c.joined else wide.kernel
    loop = [
        f"c = t % {c.chunks}",
        f"kw = t // {c.chunks} % {turns}",
        f"u = t // {c.chunks * turns}",
        # A remainder that meets no tap makes no turn; but what a pipeline asks for first must be a number.
        "kh = u % tl.maximum(th, 1)",
        "kd = u // tl.maximum(th, 1)",
        f"shift = (kd * {deep.advance * hp} + kh * {high.advance}) * {wp * c.width} + c * {c.depth}",
    ]
    masks = [f"(c * {c.depth} + k < {c.run})[None, :]"] if c.chunks * c.depth != c.run else []
    if wide.apart:
        # Never negative, so that remainders are what they are in mathematics.
        far = wide.kernel * wide.dilation
        loop.append(f"far = qw + ({wide.padding + far * wide.stride} - kw * {wide.dilation})")
        loop.append(f"at = line + (far // {wide.stride} - {far - wide.front}) * {c.width}")
        masks.append(f"(far % {wide.stride} == 0)[:, None]")
    else:
        loop.append(f"at = line + (qw * {wide.step} + kw * {wide.advance}) * {c.width}")
    tap = f"((kd0 + kd * {deep.cycle}) * {high.kernel} + kh0 + kh * {high.cycle}) * {turns} + kw"
    mask = f", mask={' & '.join(masks)}, other=0.0" if masks else ""
    return turns * c.chunks, [
        *loop,
        f"a = tl.load(x + (at[:, None] + (shift + k)[None, :]){mask})",
        f"b = tl.load(w + (({tap}) * {c.chunks} + c) * {c.depth})",
        "acc = tl.dot(a, b, acc, input_precision=HOW)",
    ]


def _taps(letter: str, axis: Axis) -> list[str]:
    """Return the statements that find the taps which outputs of a remainder meet: k = k0 + cycle i."""
    if not axis.apart:
        return [f"k{letter}0 = 0", f"t{letter} = {axis.kernel}", f"j{letter} = 0"]
    far = axis.kernel * axis.dilation
    reach = f"r{letter} + {axis.padding + far * axis.stride}"
    lines = [f"k{letter}0 = {axis.kernel}"]
    for k in range(min(axis.cycle, axis.kernel)):
        test = f"({reach} - {k * axis.dilation}) % {axis.stride} == 0"
        lines.append(f"k{letter}0 = tl.where({test}, {k}, k{letter}0)")
    return [
        *lines,
        f"t{letter} = ({axis.kernel - 1 + axis.cycle} - k{letter}0) // {axis.cycle}",
        f"j{letter} = ({reach} - k{letter}0 * {axis.dilation}) // {axis.stride} - {far - axis.front}",
    ]


def in_tf32(c: Convolution) -> bool:
    """Whether the library would use TF32, where allowed: for many channels in whole vectors, in one group."""
    return c.groups == 1 and c.channels >= 16 and c.channels % 4 == 0 and c.outputs % 4 == 0


def suits(c: Convolution) -> bool:
    """Whether our kernel is the better guess than the library's.

    Measured on an H100: the library is slow where each channel or group stands alone, along one dimension,
    and in three where it does not use the tensor cores' layout; strides of transposed convolutions cost us
    more than it, along the width.
    """
    if is_depthwise(c):
        return True
    if c.macs < _LARGE:
        return False
    rank = 1 + max((2 - k for k, axis in enumerate(c.axes) if axis.size * axis.kernel > 1), default=0)
    steps = {axis.stride for axis in c.axes[3 - rank :]}
    volume = math.prod(axis.kernel for axis in c.axes)
    if c.transposed:
        return (c.group_outputs >= 8) if c.groups > 1 else rank == 1 or (rank == 3 and steps == {1})
    if c.groups > 1 or volume == 1:
        return False
    if rank == 3:
        # What is read beyond a run of channels is lost work.
        return not in_tf32(c) and 4 * c.run >= 3 * c.chunks * c.depth
    return in_tf32(c) and (rank == 1 or (steps == {1} and c.outputs >= 128))


def convolution_text(
    name: str, c: Convolution, x: str, weight: str, bias: str, result: str, *, images: str, exact: str
) -> tuple[list[str], list[str]]:
    """Return the functions of a convolution, and the lines that launch them.

    Parameters
    ----------
    name : str
        Prefix of the functions.
    c : Convolution
    x, weight, bias, result : str
        Expressions of dense tensors; "" for no bias.
    images : str
    exact : str
        How to multiply where the library's convolutions do not use TF32.

    Returns
    -------
    functions, lines : list of str
    """
    more = [bias] if bias else []
    if is_depthwise(c):
        programs = f"({images}) * {plane_programs(c)}"
        line = f"_run({name}, {programs}, {', '.join([x, weight, *more, result])}, num_warps={WARPS})"
        return [plane_function(name, c, bool(bias))], [line]
    functions = [
        input_function(f"{name}_input", c),
        weight_function(f"{name}_weight", c),
        product_function(name, c, bool(bias)),
    ]
    copied = ", ".join([f"{name}_x", f"{name}_k", *more, result])
    warps, stages = (8, 3) if c.columns > 64 else (4, 4 if in_tf32(c) else 3)
    how = f"HOW='tf32' if tf32 else {exact!r}, num_warps={warps}, num_stages={stages}"
    return functions, [
        f"tf32 = {'torch.backends.cudnn.allow_tf32' if in_tf32(c) else False}",
        f"{name}_x = torch.empty(({images}) * {input_size(c)}, dtype=torch.float32, device=device)",
        f"_run({name}_input, ({images}) * {input_programs(c)}, {x}, {name}_x, ROUND=tf32, num_warps=4)",
        f"{name}_k = torch.empty({weight_size(c)}, dtype=torch.float32, device=device)",
        f"_run({name}_weight, {weight_programs(c)}, {weight}, {name}_k, ROUND=tf32, num_warps=4)",
        f"_run({name}, ({images}) * {product_programs(c)}, {copied}, {how})",
    ]
