"""The header of a GGUF file: what its model is like, without the weights.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Long lists, such as the vocabulary, are counted and
not kept; tensors are weighed and not read.
"""

from __future__ import annotations

import itertools
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Lists of numbers up to this length are kept; there is one number for each layer in those that matter.
_KEPT = 1024

#: GGUF's number of a type -> its struct format.
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


class NotGguf(ValueError):
    """The file is no GGUF file, or is cut off within its header."""


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """The metadata of one file.

    Attributes:
        values: key -> a number, a string, or a list of numbers.
        lengths: key -> how many items a list has, kept or not.
        tensors: name -> how many bytes it has in this file.
    """

    values: dict[str, Any]
    lengths: dict[str, int]
    tensors: dict[str, int]

    @property
    def architecture(self) -> str:
        """The family of the model, with which its own keys begin."""
        return str(self.values.get("general.architecture", ""))

    def own(self, key: str) -> Any:  # noqa: ANN401 - what the file has there
        """The value of one of the architecture's own keys, or none."""
        return self.values.get(f"{self.architecture}.{key}")

    def number(self, key: str, default: int = 0) -> int:
        """A number among the architecture's own keys; the largest where each layer has one."""
        found = self.own(key)
        if isinstance(found, list):
            return max(map(int, found), default=default)
        return default if found is None else int(found)

    def per_layer(self, key: str, layers: int, default: int) -> list[int]:
        """One number for each layer, where the file has one for all or one for each."""
        found = self.own(key)
        if isinstance(found, list):
            return [int(one) for one in found[:layers]] + [default] * (layers - len(found))
        return [default if found is None else int(found)] * layers


def read_header(path: Path) -> GgufHeader:
    """The header of the file at ``path``.

    Raises:
        OSError: it cannot be read.
        NotGguf: it is something else.
    """
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            raise NotGguf(f"{path} is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _Reader(data).header()
            except (struct.error, UnicodeDecodeError, KeyError, IndexError, OverflowError) as error:
                raise NotGguf(f"{path} is no GGUF file, or not a whole one") from error


class _Reader:
    """Walks through the bytes of a header."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 0

    def header(self) -> GgufHeader:
        if self._data[:4] != b"GGUF":
            raise KeyError("magic")
        self._at = 4
        version = self._number("I")
        if version not in (2, 3):
            raise KeyError("version")
        tensors = self._number("Q")
        values: dict[str, Any] = {}
        lengths: dict[str, int] = {}
        for _ in range(self._number("Q")):
            key = self._string()
            kind = self._number("I")
            if kind == _ARRAY:
                kept, lengths[key] = self._list()
                if kept is not None:
                    values[key] = kept
            else:
                values[key] = self._string() if kind == _STRING else self._number(_NUMBERS[kind])
        alignment = values.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise KeyError("alignment")
        return GgufHeader(values, lengths, self._tensors(tensors, alignment))

    def _tensors(self, count: int, alignment: int) -> dict[str, int]:
        """The sizes of the tensors, each of which goes to where the next begins."""
        begins: dict[str, int] = {}
        for _ in range(count):
            name = self._string()
            dimensions = self._number("I")
            self._at += 8 * dimensions + 4  # the shape, and the type
            begins[name] = self._number("Q")
        begins[""] = len(self._data) - -(-self._at // alignment) * alignment
        in_order = sorted(begins.items(), key=lambda pair: pair[1])
        if in_order[-1][0]:
            raise IndexError("cut off")
        return {name: end - begin for (name, begin), (_, end) in itertools.pairwise(in_order)}

    def _number(self, form: str) -> Any:  # noqa: ANN401 - an int, a float or a bool, as the file says
        (found,) = struct.unpack_from(f"<{form}", self._data, self._at)
        self._at += struct.calcsize(f"<{form}")
        return found

    def _string(self) -> str:
        size = self._number("Q")
        text = self._data[self._at : self._at + size]
        if len(text) < size:
            raise IndexError("cut off")
        self._at += size
        return text.decode()

    def _list(self) -> tuple[list[Any] | None, int]:
        """The items of a list of numbers that is not too long, and how many any list has."""
        kind, count = self._number("I"), self._number("Q")
        if kind == _STRING:
            for _ in range(count):
                (size,) = struct.unpack_from("<Q", self._data, self._at)
                self._at += 8 + size
            return None, count
        form = _NUMBERS[kind]
        begin = self._at
        self._at += count * struct.calcsize(f"<{form}")
        if count > _KEPT:
            return None, count
        return list(struct.unpack_from(f"<{count}{form}", self._data, begin)), count
