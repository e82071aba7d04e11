"""What takes the place of what was found: the same for the same value."""

from __future__ import annotations

import hashlib
import re
from collections import Counter

from train.dataset.personal.settings import Kind

LABELS: dict[Kind, str] = {
    "secret": "SECRET",
    "credentials": "CREDENTIALS",
    "email": "EMAIL",
    "iban": "IBAN",
    "card": "CARD",
    "national_id": "ID",
    "ip": "IP",
    "phone": "PHONE",
    "name": "NAME",
}
_NUMBERED = re.compile(rf"\b({'|'.join(LABELS.values())})_([0-9]{{1,9}})\b".encode())
_HEX_AS_LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")
_KEYED_BYTES = 5


class Placeholders:
    """The placeholders of one conversation.

    Args:
        taken: the conversation as it was; placeholders that it has already are not given to anything else.
        salt: the key of keyed placeholders; none for numbered ones.

    Attributes:
        found: how many places of each kind were replaced.
    """

    def __init__(self, taken: bytes, salt: bytes | None) -> None:
        self.found: Counter[str] = Counter()
        self._salt = salt
        self._given: dict[tuple[Kind, str], str] = {}
        self._last: Counter[str] = Counter()
        for label, number in _NUMBERED.findall(taken):
            self._last[label.decode()] = max(self._last[label.decode()], int(number))

    def name(self, kind: Kind, value: str) -> str:
        """The placeholder without brackets, such as ``EMAIL_1``."""
        self.found[kind] += 1
        given = self._given.get((kind, value))
        if given is None:
            given = self._given[kind, value] = f"{LABELS[kind]}_{self._mark(kind, value)}"
        return given

    def _mark(self, kind: Kind, value: str) -> str:
        if self._salt is None:
            self._last[LABELS[kind]] += 1
            return str(self._last[LABELS[kind]])
        # Letters only, so that no placeholder looks like a number.
        digest = hashlib.blake2b(f"{kind}\0{value}".encode(), key=self._salt, digest_size=_KEYED_BYTES)
        return digest.hexdigest().translate(_HEX_AS_LETTERS)
