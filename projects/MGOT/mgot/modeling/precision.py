"""The number format of the backbone; everything after it is float32. [ours]"""

from __future__ import annotations

import logging

import torch

from mgot.errors import UserError

logger = logging.getLogger("mgot")

PRECISIONS = ("auto", "float32", "bfloat16", "float16")


def resolve_precision(name: str, device: torch.device | str) -> torch.dtype:
    """The format that MGOT.PRECISION means on a device.

    "auto" is bfloat16 on GPUs of compute capability 8.0 on, float16 with scaled gradients on older GPUs, and float32 on
    CPUs. "bfloat16" on a CPU without AVX512-BF16 or AMX gives float32 with a warning, because emulated bfloat16 would
    be slower.

    Raises:
        UserError: no such name, or float16 on a CPU.
    """
    device = torch.device(device)
    if name == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    if name not in PRECISIONS:
        raise UserError(f"MGOT.PRECISION must be one of {PRECISIONS}, not {name!r}")
    if name == "float16" and device.type == "cpu":
        raise UserError("MGOT.PRECISION float16 needs a GPU: choose auto, bfloat16 or float32 on a CPU")
    if name == "bfloat16" and device.type == "cpu" and not cpu_multiplies_bfloat16():
        logger.warning("this CPU has no instructions for bfloat16: computing in float32 (MGOT.PRECISION)")
        return torch.float32
    return getattr(torch, name)


def cpu_multiplies_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16; also False if this PyTorch cannot tell."""
    probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(probe() for probe in probes if probe is not None)
