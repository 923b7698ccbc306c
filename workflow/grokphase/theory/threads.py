"""Independent blocks of points on several threads; NumPy releases the interpreter's lock."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

Block = TypeVar("Block")
Value = TypeVar("Value")


@cache
def _executor() -> ThreadPoolExecutor | None:
    """A thread for every core that this process may use, at most OMP_NUM_THREADS; None for one."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    count = len(os.sched_getaffinity(0))
    count = min(count, int(wanted)) if wanted.isdigit() and int(wanted) > 0 else count
    return ThreadPoolExecutor(count) if count > 1 else None


def map_blocks(function: Callable[[Block], Value], blocks: Iterable[Block]) -> list[Value]:
    """`function` of every block, in order. The blocks must not depend on one another."""
    executor = _executor()
    return list(map(function, blocks) if executor is None else executor.map(function, blocks))
