"""What the processor can do, and how JAX uses it."""

import hashlib
import platform
from functools import cache
from pathlib import Path

CPU_INFORMATION = Path("/proc/cpuinfo")

ONE_THREAD_FLAGS = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
"""XLA_FLAGS with which JAX computes on one thread of a CPU."""

SHORT_PROGRAM_FLAGS = "--xla_cpu_use_fusion_emitters=false"
"""XLA_FLAGS for programs that a CPU compiles in a longer time than it runs them; see
grokphase.sampling.ensemble.compiler_options. Those of a job beside its sampler are of this kind."""

_BFLOAT16 = {"amx_bf16", "avx512_bf16", "bf16"}
"""Names of such instructions on x86 and on ARM."""

_KIND = ("model name", "flags", "Features", "CPU implementer", "CPU variant", "CPU part")
"""Beginnings of the lines that say what a processor is, on x86 and on ARM."""


@cache
def multiplies_bfloat16() -> bool:
    """Whether the CPU has products of bfloat16 numbers; False where the system does not say."""
    try:
        words = CPU_INFORMATION.read_text().split()
    except OSError:
        return False
    return not _BFLOAT16.isdisjoint(words)


def processor_digest() -> str:
    """SHA-256 (hexadecimal) of the kind of processor: a program compiled on one need not run on
    another."""
    try:
        text = CPU_INFORMATION.read_text()
    except OSError:
        text = ""
    lines = {line for line in text.splitlines() if line.startswith(_KIND)}
    return hashlib.sha256("".join([platform.machine(), *sorted(lines)]).encode()).hexdigest()
