"""Zip archives, read member by member and never unpacked to disk: what is unsafe is refused and reported.

Refused as a whole: too many members, too much data. Refused one by one: names that lead out of a folder, links,
encryption, a name that came before, data that is much larger than what it is packed into.
"""

from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import IO

from train.dataset.exports import salvage
from train.dataset.exports.frames import Readable
from train.dataset.exports.problems import Reason, Unusable

# Small members pack as well as they like: an empty table is nothing but repetition.
_FREE_BYTES = 16 << 20
_ENTRY_BYTES = 256


@dataclass(frozen=True, slots=True)
class ZipLimits:
    """What an archive may be.

    Attributes:
        members: files inside.
        total_bytes: of all members unpacked.
        ratio: of data to what it is packed into. Chats reach 5 to 20; deflate's most is 1032.
    """

    members: int = 100_000
    total_bytes: int = 64 << 30
    ratio: int = 200


@dataclass(frozen=True, slots=True)
class Member:
    """A file inside an archive: its data, or why it is refused. To be read before the next one is asked for."""

    name: str | None
    data: Readable | None = None
    refused: Unusable | None = None


def members(file: IO[bytes], limits: ZipLimits) -> Iterator[Member]:
    """The members of an archive, in its order.

    Where the archive's directory, which is at its end, is missing or damaged, that is given as a refused member
    without a name, and then what can be found without the directory.

    Raises:
        Unusable: it is refused as a whole.
    """
    _check_directory(file, limits)
    budget = _Budget(limits)
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        why = f"cut off or damaged ({error}); reading what is there"
        yield Member(None, refused=Unusable(Reason.BAD_ZIP, why))
        yield from _salvaged(file, budget)
        return
    with archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
        _check_sizes(infos, file, limits)
        seen: set[str] = set()
        for info in infos:
            refused = _fault(info, limits) or _name_fault(info.orig_filename, seen)
            yield Member(info.orig_filename, refused=refused) if refused else _opened(archive, info, budget)


class _Budget:
    """Bytes that may still be unpacked from one archive."""

    def __init__(self, limits: ZipLimits) -> None:
        self.limits = limits
        self.left = limits.total_bytes


class _Bounded:
    """A member's data; ends with an error when more comes out than may."""

    def __init__(self, data: Readable, packed: int, budget: _Budget) -> None:
        self._data = data
        self._left = _FREE_BYTES + packed * budget.limits.ratio
        self._budget = budget

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes."""
        found = self._data.read(size)
        self._left -= len(found)
        self._budget.left -= len(found)
        if self._left < 0 or self._budget.left < 0:
            raise Unusable(Reason.ZIP_LIMIT, "unpacks to more than is allowed")
        return found


def _opened(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: _Budget) -> Member:
    try:
        data = archive.open(info)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, OSError, struct.error) as error:
        return Member(
            info.orig_filename, refused=Unusable(Reason.BAD_ZIP, f"cannot be opened ({type(error).__name__})")
        )
    return Member(info.orig_filename, _Bounded(data, info.compress_size, budget))


def _salvaged(file: IO[bytes], budget: _Budget) -> Iterator[Member]:
    seen: set[str] = set()
    size = file.seek(0, 2)
    for number, found in enumerate(salvage.entries(file)):
        if number >= budget.limits.members:
            raise Unusable(Reason.ZIP_LIMIT, f"more than {budget.limits.members} members")
        if found.encrypted:
            refused: Unusable | None = Unusable(Reason.ENCRYPTED, "is encrypted")
        else:
            refused = _name_fault(found.name, seen)
        data = None if refused else _Bounded(found.data, found.packed or size, budget)
        yield Member(found.name, data, refused)


def _check_sizes(infos: list[zipfile.ZipInfo], file: IO[bytes], limits: ZipLimits) -> None:
    if len(infos) > limits.members:
        raise Unusable(Reason.ZIP_LIMIT, f"{len(infos)} members; at most {limits.members}")
    total, packed = sum(info.file_size for info in infos), file.seek(0, 2)
    if total > limits.total_bytes:
        raise Unusable(Reason.ZIP_LIMIT, f"unpacks to {total} bytes; at most {limits.total_bytes}")
    # Members that overlap would each keep to the ratio.
    if total > _FREE_BYTES + packed * limits.ratio:
        raise Unusable(Reason.ZIP_LIMIT, f"unpacks to {total} bytes, more than {limits.ratio} times its size")


def _fault(info: zipfile.ZipInfo, limits: ZipLimits) -> Unusable | None:
    if stat.S_ISLNK(info.external_attr >> 16):
        return Unusable(Reason.UNSAFE_NAME, "is a link")
    if info.flag_bits & 0x1:
        return Unusable(Reason.ENCRYPTED, "is encrypted")
    if info.file_size > _FREE_BYTES + info.compress_size * limits.ratio:
        return Unusable(Reason.ZIP_LIMIT, f"unpacks to more than {limits.ratio} times its size")
    return None


def _name_fault(name: str, seen: set[str]) -> Unusable | None:
    """Why a member of that name is refused; ``seen`` holds the names before it."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    absolute = name.startswith(("/", "\\")) or bool(PureWindowsPath(name).drive)
    if not parts or absolute or ".." in parts or "\0" in name:
        return Unusable(Reason.UNSAFE_NAME, "has a name that leads out of a folder")
    if name in seen:
        return Unusable(Reason.DUPLICATE_NAME, "has the name of another member")
    seen.add(name)
    return None


def _check_directory(file: IO[bytes], limits: ZipLimits) -> None:
    """Refuse a directory that would not fit in memory before ``zipfile`` reads it; its end says how large it is.

    Layout: PKWARE's APPNOTE 6.3.10, 4.3.14 to 4.3.16.
    """
    size = file.seek(0, 2)
    file.seek(max(size - 65_557, 0))
    tail = file.read(65_557)
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + 22:
        return
    count, length = struct.unpack_from("<HI", tail, end + 10)
    if count == 0xFFFF or length == 0xFFFFFFFF:
        locator = tail[max(end - 20, 0) : end]
        if len(locator) == 20 and locator.startswith(b"PK\x06\x07"):
            (at,) = struct.unpack_from("<Q", locator, 8)
            file.seek(min(at, size))
            record = file.read(56)
            if len(record) == 56 and record.startswith(b"PK\x06\x06"):
                count, length = struct.unpack_from("<QQ", record, 32)
    if count > limits.members or length > limits.members * _ENTRY_BYTES:
        raise Unusable(Reason.ZIP_LIMIT, f"more than {limits.members} members")
