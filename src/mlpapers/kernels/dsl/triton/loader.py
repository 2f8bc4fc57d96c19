"""The text that a rendered Triton kernel carries around its launches."""

from mlpapers.kernels.dsl.host import CHECKS

LOADER = (
    """\
# -- loader: the launches' small helpers
import torch
import triton
import triton.language as tl

"""
    + CHECKS
    + '''

def _run(kernel, programs, *arguments, **options):
    """Launch a kernel; bools go as bytes, and offsets have 64 bits where 32 may not do."""
    if programs > 0:
        wide = any(isinstance(x, torch.Tensor) and x.numel() >= 1 << 31 for x in arguments)
        plain = [
            x.view(torch.uint8) if isinstance(x, torch.Tensor) and x.dtype == torch.bool else x
            for x in arguments
        ]
        kernel[(programs,)](*plain, WIDE=wide, **options)


# -- end of the loader
'''
)
