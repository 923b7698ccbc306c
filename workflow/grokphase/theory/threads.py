"""Independent blocks of points on several threads; NumPy releases the interpreter's lock."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Block = TypeVar("Block")
Value = TypeVar("Value")


@cache
def _executor() -> ThreadPoolExecutor | None:
    """A thread for every core that this process may use, at most OMP_NUM_THREADS; None for one."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    count = len(os.sched_getaffinity(0))
    count = min(count, int(wanted)) if wanted.isdigit() and int(wanted) > 0 else count
    return ThreadPoolExecutor(count) if count > 1 else None


def blocks_of_similar(sizes: NDArray[Any], largest: float) -> list[NDArray[np.intp]]:
    """Points [p] in blocks of similar size, so that all of a block can share the largest grid.

    sizes : elements of the grid that a point needs, [p].
    largest : elements that a block may have; a point that needs more is alone. The last point of a
        block is one of those that need most.
    """
    order = np.argsort(sizes, kind="stable")
    blocks = []
    end = order.size
    while end > 0:
        begin = max(0, end - max(1, int(largest / sizes[order[end - 1]])))
        blocks.append(order[begin:end])
        end = begin
    return blocks


def map_blocks(function: Callable[[Block], Value], blocks: Iterable[Block]) -> list[Value]:
    """`function` of every block, in order. The blocks must not depend on one another."""
    executor = _executor()
    return list(map(function, blocks) if executor is None else executor.map(function, blocks))
