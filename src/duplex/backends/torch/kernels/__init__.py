"""Triton kernels for what a step does besides reading weights, on CUDA.

Each computes what a few lines of the plain path compute, in one launch: a step has hundreds of small operations, and on
a GPU each costs about two microseconds however small it is. Everything that may change from step to step (slots,
positions) is read from tensors on the device, so that a captured graph serves for ever.

The plain path stays the definition, for the CPU, for training, and where Triton is not installed.
"""

import functools
import importlib.util

import torch
from torch import Tensor

__all__ = ["apply_to", "apply_to_device", "installed"]


@functools.cache
def installed() -> bool:
    """Return whether Triton is here; PyTorch brings it along where it supports CUDA on Linux."""
    return importlib.util.find_spec("triton") is not None


def apply_to(x: Tensor) -> bool:
    """Return whether kernels compute what is to be done with ``x``: on CUDA, where nothing is learnt or validated."""
    return x.is_cuda and torch.is_inference_mode_enabled() and installed()


def apply_to_device(device: torch.device) -> bool:
    """Return whether a model's steps on this device are computed by kernels."""
    return device.type == "cuda" and installed()
