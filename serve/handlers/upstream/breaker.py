"""A circuit breaker: a server that has failed again and again is left alone for a while.

https://martinfowler.com/bliki/CircuitBreaker.html
"""

from __future__ import annotations

from collections.abc import Callable

from serve.settings.upstream import UpstreamBreaker


class CircuitOpen(Exception):
    """The server is not asked now.

    Attributes:
        seconds: after which trying again makes sense.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"not asked for another {seconds:.1f} s")
        self.seconds = seconds


class Breaker:
    """Counts calls in a row that failed; opens when there are too many, and lets one call through after a pause.

    Args:
        settings: when to open, and for how long.
        clock: seconds that only grow.
    """

    def __init__(self, settings: UpstreamBreaker, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._failures = 0
        self._opened: float | None = None
        self._trial: Call | None = None

    @property
    def open(self) -> bool:
        """Whether calls are refused, but for a trial."""
        return self._opened is not None

    def enter(self) -> Call:
        """Begin a call.

        Raises:
            CircuitOpen: not now.
        """
        call = Call(self)
        if self._opened is not None:
            left = self._opened + self._settings.open_seconds - self._clock()
            if left > 0:
                raise CircuitOpen(left)
            if self._trial is not None:
                raise CircuitOpen(1.0)
            self._trial = call
        return call

    def _answering(self, call: Call) -> None:
        if call is self._trial:
            # It answers again, but the next failure is enough.
            self._opened, self._trial = None, None
            self._failures = self._settings.failures - 1

    def _end(self, call: Call, *, failed: bool | None) -> None:
        was_trial = call is self._trial
        if was_trial:
            self._trial = None
        if failed is None:
            return
        if not failed:
            self._failures, self._opened = 0, None
            return
        self._failures += 1
        # What was under way when it opened does not lengthen the pause; a failed trial begins a new one.
        if was_trial or (self._opened is None and self._failures >= self._settings.failures):
            self._opened = self._clock()


class Call:
    """One call; ends once, by the first of ``succeeded``, ``failed``, ``given_up``.

    Attributes:
        begun: whether an answer to it has begun.
    """

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker
        self._ended = False
        self.begun = False

    def answering(self) -> None:
        """The first byte of an answer is here."""
        self.begun = True
        self._breaker._answering(self)

    def succeeded(self) -> None:
        """The server has done its part."""
        self._end(failed=False)

    def failed(self) -> None:
        """The server has not answered, or broke off, or said that it failed."""
        self._end(failed=True)

    def given_up(self) -> None:
        """It ended in a way that says nothing about the server's health."""
        self._end(failed=None)

    def _end(self, *, failed: bool | None) -> None:
        if not self._ended:
            self._ended = True
            self._breaker._end(self, failed=failed)
