"""The form of an upload (``multipart/form-data``), taken apart while it comes; the file goes to the disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from serve.errors import InvalidRequest, PayloadTooLarge
from serve.protocol.validation import parse_request
from serve.settings.suggest import one_of
from serve.store.contents import Change

#: What a form may have besides the file's own bytes.
FORM_BYTES = 64 * 1024
_VALUE_BYTES = 1024
_NAME_CHARACTERS = 255

Purpose = Literal["fine-tune", "user_data"]


class ExpiresAfter(BaseModel):
    """When a file is deleted by itself: so many seconds after it was made, from an hour to 30 days."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, frozen=True)

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=2_592_000)]


class FileUpload(BaseModel):
    """``POST /v1/files``, as ``multipart/form-data``; parts of ``expires_after`` are fields of their own, such as
    ``expires_after[seconds]``."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, frozen=True)

    file: Annotated[bytes, Field(json_schema_extra={"format": "binary"})]
    purpose: Purpose
    expires_after: ExpiresAfter | None = None


_FIELDS = ("purpose", "expires_after[anchor]", "expires_after[seconds]")


@dataclass(slots=True)
class _Part:
    """The part of the form that is being read."""

    headers: list[tuple[bytearray, bytearray]] = field(default_factory=list)
    name: str = ""
    is_file: bool = False
    value: bytearray = field(default_factory=bytearray)


class Form:
    """One form.

    Args:
        content_type: the request's header.
        change: takes the file's content.
        file_bytes: of the largest file.

    Raises:
        InvalidRequest: the header is not that of a form.
    """

    def __init__(self, content_type: bytes | None, change: Change, file_bytes: int) -> None:
        kind, options = parse_options_header((content_type or b"").decode("latin-1"))
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not boundary:
            raise _broken("The content type must be multipart/form-data with a boundary.")
        self.filename: str | None = None
        self._change = change
        self._file_bytes = file_bytes
        self._values: dict[str, str] = {}
        self._part = _Part()
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_begin": lambda: self._part.headers.append((bytearray(), bytearray())),
                    "on_header_field": lambda data, start, end: self._part.headers[-1][0].extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._part.headers[-1][1].extend(data[start:end]),
                    "on_headers_finished": self._open_part,
                    "on_part_data": self._data,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise _broken(str(error)) from None

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body. Blocks while the disk takes them.

        Raises:
            InvalidRequest: the form is broken, or holds what it must not.
            PayloadTooLarge: the file is larger than it may be.
            OSError: it cannot be written.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _broken(str(error)) from None

    def finish(self) -> FileUpload:
        """The form without the file's content, which is on the disk by then.

        Raises:
            InvalidRequest: the form is not whole, or a field of it is missing or wrong.
            OSError: the disk failed.
        """
        if not self._ended:
            raise _broken("The body ends before the form does.")
        raw: dict[str, object] = {}
        expires_after: dict[str, object] = {}
        for name, value in self._values.items():
            (expires_after if "[" in name else raw)[name.partition("[")[2].removesuffix("]") or name] = value
        if self.filename is not None:
            raw["file"] = b""
        upload = parse_request(FileUpload, raw | ({"expires_after": expires_after} if expires_after else {}))
        if not self._change.size:
            raise InvalidRequest("file: the file is empty.", param="file", code="empty_file")
        self._change.flush()
        return upload

    def _begin_part(self) -> None:
        self._part = _Part()

    def _open_part(self) -> None:
        options: dict[bytes, bytes] = {}
        for header, value in self._part.headers:
            if header.lower() == b"content-disposition":
                options = parse_options_header(value.decode("latin-1"))[1]
        self._part.name = name = options.get(b"name", b"").decode("utf-8", "replace")
        if name == "file":
            self._open_file(options.get(b"filename", b"").decode("utf-8", "replace"))
        elif name not in _FIELDS:
            known = one_of("field", name[:_VALUE_BYTES], ("file", *_FIELDS))
            raise InvalidRequest(f"{known}.", code="unknown_parameter")
        elif name in self._values:
            raise InvalidRequest(f"{name}: given twice.", param=name)

    def _open_file(self, filename: str) -> None:
        if self.filename is not None:
            raise InvalidRequest("file: one request takes one file.", param="file")
        if not filename.strip():
            raise InvalidRequest("file: must be sent as a file, with a filename.", param="file")
        self._part.is_file = True
        self.filename = shown_name(filename)

    def _data(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        if not part.is_file:
            part.value += data[start:end]
            if len(part.value) > _VALUE_BYTES:
                raise InvalidRequest(f"{part.name}: has more than {_VALUE_BYTES} bytes.", param=part.name)
            return
        if self._change.size + end - start > self._file_bytes:
            raise too_large(self._file_bytes)
        self._change.write(data[start:end])

    def _end_part(self) -> None:
        part = self._part
        if not part.is_file:
            self._values[part.name] = part.value.decode("utf-8", "replace")
            if part.name == "purpose":
                # Said at once where it comes before the file, as clients send it.
                parse_request(FileUpload, {"file": b"", "purpose": self._values["purpose"]})

    def _end(self) -> None:
        self._ended = True


def shown_name(filename: str) -> str:
    """A file's name without the folders that it may come with, and without what steers a terminal."""
    last = filename.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return "".join(char for char in last if char.isprintable())[:_NAME_CHARACTERS] or "file"


def too_large(most: int) -> PayloadTooLarge:
    """The error for a file of more than ``most`` bytes."""
    return PayloadTooLarge(f"The file has more than {most} bytes, the most allowed.", param="file")


def _broken(message: str) -> InvalidRequest:
    return InvalidRequest(message, code="invalid_form")
