"""Progress of one job: lines in its log, and a bar where a person is watching a terminal."""

import logging
import time

from tqdm import tqdm

_log = logging.getLogger(__name__)


class Progress:
    """Counts finished units of work; reports their number, their rate and the remaining time."""

    def __init__(self, total: int, unit: str, every_seconds: float = 10.0) -> None:
        self._bar = tqdm(total=total, unit=unit, disable=None, leave=False)
        self._total = total
        self._unit = unit
        self._every = every_seconds
        self._reported = time.monotonic()
        self._first: tuple[int, float] | None = None

    def update(self, done: int) -> None:
        """Report that `done` of the total are finished."""
        now = time.monotonic()
        self._bar.update(done - self._bar.n)
        if self._first is None:
            # The first unit includes compilation and is left out of the rate.
            self._first = (done, now)
        elif now - self._reported >= self._every or done == self._total:
            self._reported = now
            first, started = self._first
            rate = (done - first) / max(now - started, 1e-9)
            remaining = (self._total - done) / max(rate, 1e-9)
            _log.info(
                f"{done} of {self._total} {self._unit}, {rate:.3g} {self._unit}/s, "
                f"{remaining:.0f} s remaining"
            )

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()
