"""How the pieces of one request fare, and when the model is taken for lost."""

from __future__ import annotations

import asyncio

from serve.errors import AdapterRefused, Conflict, Forbidden, GroupQwenError, NotFound, Unauthorized

#: What no other piece would be answered better.
_FINAL = (Unauthorized, Forbidden, NotFound, Conflict, AdapterRefused)


class Progress:
    """What became of the pieces of all texts of one request.

    Args:
        pieces: how many there are.
        row: so many failures one after the other, and no more pieces are asked for.
    """

    def __init__(self, pieces: int, row: int) -> None:
        self._left = pieces
        self._row = row
        self._failures = 0  # since something was translated
        self._error: GroupQwenError | None = None
        self._seen: set[GroupQwenError] = set()
        self._translated = False
        self._known = asyncio.Event()

    def check(self) -> None:
        """See that it makes sense to ask the model once more.

        Raises:
            GroupQwenError: the last failure, where it does not.
        """
        if self._error is not None and (self._failures >= self._row or isinstance(self._error, _FINAL)):
            raise self._error

    def end(self, *, translated: bool, asked: bool) -> None:
        """Take a piece that did not fail.

        Args:
            translated: whether there was something to translate in it. asked: whether the model did that just now.
        """
        if asked:
            self._failures, self._error = 0, None
        if translated:
            self._translated = True
            self._known.set()
        self._ended()

    def fail(self, error: GroupQwenError) -> None:
        """Take a piece that failed. What stands in a text many times fails with one error, and that counts once."""
        if error not in self._seen:
            self._seen.add(error)
            self._failures += 1
        self._error = error
        self._ended()

    def abort(self) -> None:
        """Take a piece that nobody will hear of again, so that none waits for it."""
        self._known.set()

    async def settle(self) -> None:
        """Wait until it is known whether the model translates anything.

        Raises:
            GroupQwenError: the last failure, where it translated nothing.
        """
        await self._known.wait()
        if not self._translated:
            assert self._error is not None, "who asks has seen a failure"
            raise self._error

    def _ended(self) -> None:
        self._left -= 1
        if not self._left:
            self._known.set()
