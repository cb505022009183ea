"""Whether a processor computes in bf16 by itself."""

from collections.abc import Mapping
from typing import Any

import torch


def emulates_bf16() -> bool:
    """Whether bf16 is emulated here, which takes up to a hundred times as long: a CPU without AMX or AVX512-BF16."""
    return not torch.cuda.is_available() and _is_x86_without_bf16(torch.cpu.get_capabilities())


def _is_x86_without_bf16(capabilities: Mapping[str, Any]) -> bool:
    x86 = capabilities.get("architecture") == "x86_64"
    return x86 and not any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16"))
