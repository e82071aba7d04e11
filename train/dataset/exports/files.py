"""Reads export files: what a file is, is told by its content; every conversation becomes a row or a problem."""

from __future__ import annotations

import io
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError
from typing_extensions import Buffer

from serve.errors import InvalidRequest
from serve.store.values import clean_text
from train.dataset.exports import archives, markdown
from train.dataset.exports.archives import Member, ZipLimits
from train.dataset.exports.frames import Broken, Frames, Readable
from train.dataset.exports.problems import Place, Problem, Reason, Unusable
from train.dataset.exports.reader import Draft, Reader, ReadOptions
from train.dataset.exports.registry import Readers
from train.dataset.rows import Provenance, Row, SourceName, content_digest

STDIN = "-"

_HEAD_BYTES = 4096
_COPY_BYTES = 1 << 20
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_ARCHIVES = (*_ZIP, b"\x1f\x8b", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"\xfd7zXZ\x00", b"BZh", b"\x28\xb5\x2f\xfd")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_HELD = 1000

Event = Row | Problem


@dataclass(frozen=True)
class Reading:
    """How files are read.

    Attributes:
        options: how conversations are read.
        readers: the sources that are looked for.
        conversation_bytes: of the largest conversation; memory grows with it.
        depth: levels of the deepest one.
        progress: told how many bytes of the input were read.
    """

    options: ReadOptions = field(default_factory=ReadOptions)
    readers: Readers = field(default_factory=Readers)
    zip_limits: ZipLimits = field(default_factory=ZipLimits)
    conversation_bytes: int = 64 << 20
    depth: int = 200
    progress: Callable[[int], None] = lambda count: None


def read_file(name: str, reading: Reading | None = None) -> Iterator[Event]:
    """Every conversation of one file, ``-`` being standard input. One file is one unit of parallel work.

    A file that cannot be opened or made sense of is a problem too; nothing is raised but for faults of the program.
    """
    reading = reading or Reading()
    place = Place(name)
    try:
        if name == STDIN:
            yield from _events(_Peeked(sys.stdin.buffer), None, place, reading)
            return
        with io.BufferedReader(_Counted(name, reading.progress), 1 << 20) as file:
            yield from _events(_Peeked(file), file, place, reading)
    except Unusable as error:
        yield Problem(place, error.reason, error.detail)
    except OSError as error:
        yield Problem(place, Reason.UNREADABLE, error.strerror or type(error).__name__)


def files_of(inputs: list[str]) -> Iterator[str]:
    """The files that are named, and those in the folders that are named, sorted; links in these are left out."""
    for name in inputs:
        path = Path(name)
        if name == STDIN or not path.is_dir():
            yield name
        else:
            found = (child for child in path.rglob("*") if child.is_file() and not child.is_symlink())
            yield from sorted(str(child) for child in found)


class _Counted(io.FileIO):
    """A file that tells how much of it was read."""

    def __init__(self, name: str, progress: Callable[[int], None]) -> None:
        super().__init__(name)
        self._progress = progress

    def readinto(self, buffer: Buffer, /) -> int | None:
        """Read, and tell."""
        count = super().readinto(buffer)
        self._progress(count or 0)
        return count


class _Peeked:
    """A stream whose beginning can be looked at before it is read."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self.head = b""
        while len(self.head) < _HEAD_BYTES and (more := stream.read(_HEAD_BYTES - len(self.head))):
            self.head += more
        self._left = self.head

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes."""
        if self._left:
            found, self._left = self._left[:size], self._left[size:]
            return found
        return self._stream.read(size)


def _events(stream: _Peeked, file: IO[bytes] | None, place: Place, reading: Reading) -> Iterator[Event]:
    """The events of an input; ``file`` is the same as a file that can be sought in, where it is one."""
    head = stream.head
    if head.startswith(_ZIP) and file is not None:
        yield from _archive_events(file, place, reading)
    elif head.startswith(_ZIP):
        with tempfile.TemporaryFile() as kept:
            while data := stream.read(_COPY_BYTES):
                kept.write(data)
            yield from _archive_events(kept, place, reading)
    elif head.startswith(_ARCHIVES):
        raise Unusable(Reason.NOT_RECOGNISED, "is a kind of archive that is not read; unpack it, or pack it as zip")
    elif head.startswith(_UTF16) and b"\0" in head[:4]:
        raise Unusable(Reason.NOT_RECOGNISED, "is encoded as UTF-16; save it as UTF-8")
    elif not head:
        raise Unusable(Reason.NOT_RECOGNISED, "is empty")
    else:
        yield from _text_events(stream, place, reading)


def _archive_events(file: IO[bytes], place: Place, reading: Reading) -> Iterator[Event]:
    some = False
    for member in archives.members(file, reading.zip_limits):
        inside = replace(place, member=member.name)
        for event in _member_events(member, inside, reading):
            some = some or isinstance(event, Row) or event.place.number is not None
            yield event
    if not some:
        yield Problem(place, Reason.NOT_RECOGNISED, "no file of the archive holds conversations")


def _member_events(member: Member, place: Place, reading: Reading) -> Iterator[Event]:
    if member.refused is not None or member.data is None:
        refused = member.refused or Unusable(Reason.BAD_ZIP, "has no data")
        yield Problem(place, refused.reason, refused.detail)
        return
    try:
        stream = _Peeked(member.data)
        if stream.head.startswith(_ARCHIVES):
            yield Problem(place, Reason.NESTED_ARCHIVE, "archives inside archives are not opened")
        elif _like_json(stream.head) or _thread_head(stream.head):
            yield from _text_events(stream, place, reading)
        else:
            yield Problem(place, Reason.NOT_CONVERSATIONS, "holds no conversations")
    except (Unusable, zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError) as error:
        yield _failed(error, place)


def _failed(error: Exception, place: Place) -> Problem:
    """What went wrong while data was read."""
    if isinstance(error, Unusable):
        return Problem(place, error.reason, error.detail)
    if isinstance(error, EOFError):
        return Problem(place, Reason.CUT_OFF, "the archive ends in the middle of the file")
    reason = Reason.BAD_ZIP if place.member is not None else Reason.UNREADABLE
    return Problem(place, reason, f"the data is damaged ({type(error).__name__})")


def _like_json(head: bytes) -> bool:
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith((b"{", b"["))


def _thread_head(head: bytes) -> bool:
    return markdown.is_thread(head.decode("utf-8-sig", "replace").replace("\r\n", "\n"))


def _text_events(stream: _Peeked, place: Place, reading: Reading) -> Iterator[Event]:
    """JSON or Markdown; where nothing is a conversation, one problem says so."""
    if _thread_head(stream.head):
        yield from _markdown_events(stream, place, reading)
        return
    held: list[Problem] = []
    known = False
    json = _like_json(stream.head)
    for event in _json_events(stream, place, reading):
        # Until there is a conversation, it may be some other file: a profile, a list of ratings.
        if not known and isinstance(event, Problem) and (event.reason is Reason.UNKNOWN_SHAPE or not json):
            held = [*held, event] if len(held) < _HELD else held
            continue
        if not known:
            known = True
            yield from held
        yield event
    if not known and (held or not json):
        reason = Reason.NOT_RECOGNISED if place.member is None else Reason.NOT_CONVERSATIONS
        yield Problem(place, reason, "holds no conversations of a known form")


def _markdown_events(stream: _Peeked, place: Place, reading: Reading) -> Iterator[Event]:
    most = reading.conversation_bytes
    data = bytearray()
    while len(data) <= most and (more := stream.read(most + 1 - len(data))):
        data += more
    where = replace(place, number=1)
    if len(data) > most:
        yield Problem(where, Reason.TOO_LARGE, f"more than {most} bytes")
    else:
        yield from read_value(markdown.thread(data.decode("utf-8-sig", "replace")), where, reading)


def _json_events(stream: _Peeked, place: Place, reading: Reading) -> Iterator[Event]:
    frames = Frames(stream, reading.readers.know, most=reading.conversation_bytes, deepest=reading.depth)
    for item in frames:
        where = replace(place, number=item.number, line=item.line, byte=item.byte)
        if isinstance(item, Broken):
            yield Problem(where, item.reason, item.detail)
        else:
            for number, value in enumerate(reading.readers.unwrapped(item.value), start=1):
                inside = where if value is item.value else replace(where, number=number)
                yield from read_value(value, inside, reading)
    if frames.failure is not None:
        yield _failed(frames.failure, place)


def read_value(value: object, place: Place, reading: Reading) -> Iterator[Event]:
    """One conversation, parsed already, as rows or a problem."""
    reader = reading.readers.of(value) if isinstance(value, dict) else None
    if not isinstance(value, dict) or reader is None:
        yield Problem(place, Reason.UNKNOWN_SHAPE, "is no conversation of a known form")
    else:
        yield from _rows(value, place, reading, reader)


def _rows(value: dict[str, Any], place: Place, reading: Reading, reader: Reader) -> Iterator[Event]:
    try:
        for draft in reader.read(value, reading.options):
            yield row_of(draft, reader.name, place)
    except Unusable as error:
        yield Problem(place, error.reason, error.detail)
    except ValidationError as error:
        yield Problem(place, *broken_rule(error))
    except (InvalidRequest, TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
        # A shape that nobody has seen yet costs its conversation, not the file.
        yield Problem(place, Reason.WRONG_VALUE, f"cannot be read ({type(error).__name__})")


def row_of(draft: Draft, source: SourceName, place: Place) -> Row:
    """A draft as a row, with an id that depends on the conversation only.

    Raises:
        pydantic.ValidationError: it breaks a rule of ``train.dataset.rows``.
    """
    own = draft.source_id or content_digest(draft.messages, draft.tools, draft.rejected)
    provenance = Provenance(
        file=clean_text(place.file) or None,
        member=None if place.member is None else clean_text(place.member),
        number=place.number,
        source_id=draft.source_id,
        title=draft.title,
        updated_at=draft.updated_at,
        branch=draft.branch,
        models=draft.models or None,
        times=draft.times if any(draft.times) else None,
        dropped={kind: count for kind, count in sorted(draft.dropped.items()) if count} or None,
        tenant=draft.tenant,
        feedback=draft.feedback,
    )
    return Row(
        id=f"{source}:{own}" if draft.branch is None else f"{source}:{own}#{draft.branch}",
        source=source,
        created_at=draft.created_at,
        model=draft.models[-1] if draft.models else None,
        messages=draft.messages,
        tools=draft.tools or None,
        rejected=draft.rejected or None,
        provenance=provenance,
    )


def broken_rule(error: ValidationError) -> tuple[Reason, str]:
    """Which rule of rows a conversation breaks, and where; never what was said."""
    first = error.errors(include_input=False, include_context=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    text = f"{where}: {first['msg']}" if where else first["msg"]
    kind = first["type"]
    return (Reason(kind) if kind in set(Reason) else Reason.WRONG_VALUE), text
