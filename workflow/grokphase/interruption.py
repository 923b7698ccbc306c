"""Signals that ask a job to save its state and stop: SIGTERM, SIGUSR1, and SIGINT (Ctrl-C)."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], str | None]]:
    """Within the block these signals only set a flag: the function given returns the first one's
    name, or None. The handlers that were there before are back afterwards."""
    received: list[str] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(number).name)

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
