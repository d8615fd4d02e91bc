"""The number format that a device computes fastest in: bfloat16 where it has units for it, else float32."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "float32", "bfloat16"]

# The units of CPUs that multiply bfloat16, as torch names them: AVX-512 BF16 and AMX of x86, BF16 of Arm.
_UNITS = ("avx512_bf16", "amx_bf16", "bf16")
# What oneDNN may be told to use at most and still takes those units (its guide, "CPU Dispatcher Control").
_LIMITS_WITH_UNITS = ("DEFAULT", "AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX512_CORE_AMX", "AVX10")


def dtype_of(precision: Precision, device: torch.device) -> torch.dtype:
    """The number format that ``precision`` means on ``device``."""
    import torch  # a job's settings need no more than the names above

    if precision == "auto":
        return torch.bfloat16 if has_bfloat16_units(device) else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def has_bfloat16_units(device: torch.device) -> bool:
    """Whether ``device`` multiplies bfloat16 in hardware, and nobody has hidden that from oneDNN."""
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    if not (_onednn_limit() or "DEFAULT").upper().startswith(_LIMITS_WITH_UNITS):
        return False
    found: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # torch of before 2.10 does not tell
    return any(found.get(unit) for unit in _UNITS)


def limit_told() -> str:
    """What a sentence about missing units has to add: that somebody hides them from oneDNN; else nothing."""
    limit = _onednn_limit()
    return f" (oneDNN is limited to {limit})" if limit else ""


def _onednn_limit() -> str | None:
    """The set of instructions that oneDNN may use at most (its guide, "CPU Dispatcher Control"); None: any."""
    return os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or None
