"""What a kernel may leave to torch: views, allocation, copies, and the library's contractions.

The same lists judge the text (names such as ``torch.relu``) and the run (``aten`` operators as they are
dispatched).
"""

from __future__ import annotations

from typing import Any

LIBRARY_OPS = ("none", "contractions", "any")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# aten operators, without their overload.
_ALLOCATION = _words(
    """
    empty empty_like empty_strided empty_permuted new_empty new_empty_strided new_zeros new_ones
    new_full zeros zeros_like ones ones_like full full_like arange scalar_tensor resize_ set_ fill_
    zero_ lift_fresh lift_fresh_copy detach detach_ alias
    """
)
_LAYOUT = _words(
    """
    clone contiguous copy_ _to_copy to pin_memory is_pinned is_same_size
    _has_compatible_shallow_copy_type is_contiguous sym_size sym_stride sym_numel sym_storage_offset
    size stride storage_offset _local_scalar_dense item is_nonzero equal_ constant_pad_nd _unsafe_view
    _reshape_alias
    """
)
_CONTRACTIONS = _words(
    """
    mm addmm addmm_ bmm baddbmm baddbmm_ addbmm mv addmv dot vdot matmul linear einsum tensordot
    bilinear convolution _convolution convolution_overrideable conv1d conv2d conv3d conv_transpose1d
    conv_transpose2d conv_transpose3d thnn_conv2d _slow_conv2d_forward slow_conv3d slow_conv3d_forward
    slow_conv_transpose2d slow_conv_transpose3d slow_conv_dilated2d slow_conv_dilated3d
    mkldnn_convolution mkldnn_linear cudnn_convolution cudnn_convolution_transpose _mkldnn_transpose
    _int_mm _weight_int8pack_mm scaled_dot_product_attention _scaled_dot_product_flash_attention
    _scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_efficient_attention
    _scaled_dot_product_cudnn_attention _scaled_dot_product_attention_math
    _scaled_dot_product_fused_attention_overrideable _fused_sdp_choice _nnpack_spatial_convolution
    """
)

# Names of torch's Python interface that compute nothing of the work.
_NAMES = _words(
    """
    empty empty_like empty_strided zeros zeros_like ones ones_like full full_like arange tensor
    as_tensor scalar_tensor as_strided from_numpy no_grad inference_mode is_tensor is_floating_point
    numel finfo iinfo get_num_threads device dtype Size Tensor strided contiguous_format channels_last
    channels_last_3d preserve_format memory_format broadcast_shapes broadcast_tensors reshape permute
    transpose movedim squeeze unsqueeze flatten unflatten swapaxes narrow split chunk unbind
    view_as_real t promote_types result_type get_default_dtype is_grad_enabled allow_tf32
    """
)
_DTYPES = _words(
    """
    float float16 float32 float64 bfloat16 half double int int8 int16 int32 int64 short long uint8
    uint16 uint32 uint64 bool
    """
)
NAME_CONTRACTIONS = _words(
    """
    mm addmm bmm baddbmm addbmm mv addmv dot matmul einsum tensordot conv1d conv2d conv3d
    conv_transpose1d conv_transpose2d conv_transpose3d convolution linear bilinear
    scaled_dot_product_attention mkldnn_convolution _int_mm
    """
)
_LAYER_CONTRACTIONS = _words(
    """
    Linear Bilinear Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d
    """
)
# Modules whose call computes nothing.
_FREE_LAYERS = _words(
    """
    Identity Flatten Unflatten ParameterList ParameterDict ModuleList ModuleDict
    """
)


def aten_allowed(name: str, library_ops: str) -> bool:
    """Return whether the operator `name` (``"aten::relu"`` or ``"relu"``) may run inside ``forward``.

    Views are not decided here: they are recognised by their schema.
    """
    if library_ops == "any":
        return True
    base = name.removeprefix("aten::").partition(".")[0]
    if base in _ALLOCATION or base in _LAYOUT:
        return True
    return library_ops == "contractions" and base in _CONTRACTIONS


def is_contraction(name: str) -> bool:
    """Return whether the aten operator is a contraction of the library."""
    return name.removeprefix("aten::").partition(".")[0] in _CONTRACTIONS


# A task that draws random numbers has the answer of torch's own generator; in other tasks a draw is refused
# when it happens.
RANDOM_DRAWS = frozenset(
    [
        "bernoulli", "bernoulli_", "dropout", "native_dropout", "normal_", "rand", "rand_like", "randint",
        "randn", "randn_like", "random_", "randperm", "uniform_",
    ]
)  # fmt: skip


def torch_name_allowed(path: str, library_ops: str) -> bool:
    """Return whether a dotted name of torch (``"torch.nn.functional.relu"``) may be used in a function.

    Classes of ``torch.nn`` are judged where they are called, with :func:`layer_allowed`.
    """
    if library_ops == "any":
        return True
    parts = path.split(".")
    if parts[:3] == ["torch", "ops", "aten"]:
        return len(parts) == 3 or parts[3] in RANDOM_DRAWS or aten_allowed(parts[3], library_ops)
    last = parts[-1]
    if last in _DTYPES or last in _NAMES:
        return True
    if last in NAME_CONTRACTIONS:
        return library_ops == "contractions"
    # A package on the way (torch.nn.functional) and classes are no operations.
    return last in ("torch", "nn", "functional", "F", "aten", "ops", "Parameter", "Module") or (
        len(parts) >= 3 and parts[1] == "nn" and last[:1].isupper()
    )


def layer_allowed(name: str, library_ops: str) -> bool:
    """Return whether a layer of ``torch.nn`` may be called inside ``forward``."""
    if library_ops == "any" or name in _FREE_LAYERS:
        return True
    return library_ops == "contractions" and name in _LAYER_CONTRACTIONS


def is_view(schema: Any) -> bool:
    """Return whether an operator only returns aliases of what it was given, by its schema."""
    returns = list(schema.returns)
    aliases = [item.alias_info for item in returns]
    if not returns or any(info is None for info in aliases):
        return False
    return not any(info.is_write for info in aliases)
