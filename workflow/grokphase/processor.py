"""What the processor can do."""

from functools import cache
from pathlib import Path

CPU_INFORMATION = Path("/proc/cpuinfo")

_BFLOAT16 = {"amx_bf16", "avx512_bf16", "bf16"}
"""Names of such instructions on x86 and on ARM."""


@cache
def multiplies_bfloat16() -> bool:
    """Whether the CPU has products of bfloat16 numbers; False where the system does not say."""
    try:
        words = CPU_INFORMATION.read_text().split()
    except OSError:
        return False
    return not _BFLOAT16.isdisjoint(words)
