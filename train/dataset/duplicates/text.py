"""What of a row is compared, and its shingles."""

from __future__ import annotations

import hashlib
import re
import unicodedata
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from train.dataset.duplicates.settings import DuplicateSettings

Hashes = NDArray[np.uint64]
#: A row as JSON has it. Rows are read without ``Row``'s checks: they were made when the row was written.
Json = dict[str, Any]

#: Small letters for capitals, spaces for all that is no letter or digit.
_ASCII = bytes(code if chr(code).isalnum() or code > 127 else 32 for code in range(256)).lower()
#: Scripts that are written without spaces: Thai to Khmer, kana, Han.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORDS = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")

# Odd constants of 64 bits; they only have to differ.
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xC2B2AE3D27D4EB4F)
_PREAMBLE = ("system", "developer")


def digest(row: Json) -> bytes:
    """16 bytes that stand for all that was said: equal where it differs in case, spaces or forms of letters only."""
    said = []
    for part in (row["messages"], row.get("rejected") or ()):
        for message in part:
            calls = [call["function"] for call in message.get("tool_calls") or ()]
            texts = (message.get("content"), message.get("reasoning_content"))
            said.append([message["role"], *map(_folded, texts), calls])
        said.append([])
    content = orjson.dumps([said, row.get("tools") or []], option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(content, digest_size=16).digest()


def texts(row: Json) -> Iterator[str]:
    """What was said without system messages, which many conversations share, and without thoughts."""
    for message in row["messages"]:
        if message["role"] not in _PREAMBLE:
            if message.get("content"):
                yield message["content"]
            for call in message.get("tool_calls") or ():
                yield call["function"]["arguments"]


def shingles(row: Json, settings: DuplicateSettings) -> Hashes:
    """The hashes of the row's shingles, in order, maybe repeated; always at least one.

    A row of fewer units than a shingle has is one shingle.
    """
    if settings.unit == "word":
        units = word_hashes("\n".join(texts(row)))
    else:
        units = _character_codes(" ".join(_folded(text) or "" for text in texts(row)))
    return ngrams(units, min(settings.shingle, len(units)))


def word_hashes(text: str) -> NDArray[np.uint32]:
    """A hash for each word; a text without letters and digits is one word."""
    if text.isascii():
        words = text.encode("ascii").translate(_ASCII).split()
    else:
        folded = unicodedata.normalize("NFKC", text).casefold()
        words = [word.encode("utf-8", "surrogatepass") for word in _WORDS.findall(folded)]
    if not words:
        words = ["".join(text.split()).encode("utf-8", "surrogatepass")]
    return np.fromiter(map(zlib.crc32, words), dtype=np.uint32, count=len(words))


def ngrams(units: NDArray[np.uint32], size: int) -> Hashes:
    """The hashes of all runs of ``size`` units."""
    wide = units.astype(np.uint64)
    count = len(wide) - size + 1
    mixed = wide[:count] * _STEP
    for place in range(1, size):
        mixed ^= mixed >> np.uint64(29)
        mixed += wide[place : place + count]
        mixed *= _STEP
    mixed ^= mixed >> np.uint64(32)
    mixed *= _MIX
    mixed ^= mixed >> np.uint64(29)
    return mixed


def distinct(values: Hashes) -> Hashes:
    """Each value once, in order. Since numpy 2.3 ``np.unique`` uses a hash table, at several times the cost."""
    ordered = np.sort(values)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered


def _character_codes(text: str) -> NDArray[np.uint32]:
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    return codes if len(codes) else np.zeros(1, dtype=np.uint32)


def _folded(text: str | None) -> str | None:
    if not text:
        return text
    folded = text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.split())
