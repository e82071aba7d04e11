"""A file to translate, as a form (``multipart/form-data``) brings it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

import orjson
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.types import Message, Scope

from serve.errors import InvalidRequest, PayloadTooLarge
from serve.handlers.translation.formats import ENDINGS
from serve.protocol.translation import Format, TranslateFile, TranslateRequest
from serve.protocol.validation import parse_request
from serve.settings.suggest import one_of

_FILE = "file"
_MEDIA: dict[Format, bytes] = {
    "text": b"text/plain; charset=utf-8",
    "markdown": b"text/markdown; charset=utf-8",
    "html": b"text/html; charset=utf-8",
    "json": b"application/json; charset=utf-8",
    "po": b"text/x-gettext-translation; charset=utf-8",
    "srt": b"application/x-subrip; charset=utf-8",
    "vtt": b"text/vtt; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class Upload:
    """A file and what is wanted of it.

    Attributes:
        request: the same request with the file's text.
        name: the file's name, with no folders.
        as_file: whether the answer is the translated file.
    """

    request: TranslateRequest
    name: str
    as_file: bool

    def named(self, code: str) -> str:
        """The name of the translated file: ``guide.md`` becomes ``guide.de.md``."""
        path = PurePosixPath(self.name)
        return f"{path.stem}.{code}{path.suffix}"

    @property
    def media_type(self) -> bytes:
        """Of the translated file."""
        return _MEDIA[self.request.format]


async def read_upload(scope: Scope, body: bytes, file_bytes: int) -> Upload:
    """The form in ``body``.

    Raises:
        InvalidRequest: it is broken, lacks something, or its file is no text of a known format.
        PayloadTooLarge: the file has more than ``file_bytes``.
    """
    sent = False

    async def receive() -> Message:
        nonlocal sent
        chunk, sent = (b"" if sent else body), True
        return {"type": "http.request", "body": chunk, "more_body": False}

    try:
        async with Request(scope, receive).form(max_files=1, max_fields=16, max_part_size=4 * 1024 * 1024) as form:
            raw, file = _fields(form)
            content = b"" if file is None else await file.read()
    except (MultiPartException, HTTPException) as error:
        reason = getattr(error, "message", None) or getattr(error, "detail", "it is broken")
        raise InvalidRequest(f"The form cannot be read: {reason}", code="invalid_form") from None
    name = PurePosixPath((file.filename or "").replace("\\", "/")).name if file is not None else ""
    # The model wants the bytes; what is in them is read here.
    fields = parse_request(TranslateFile, raw if file is None else {**raw, _FILE: b""})
    if len(content) > file_bytes:
        raise PayloadTooLarge(f"The file has {len(content)} bytes; the most allowed is {file_bytes}.", param="file")
    format = fields.format if fields.format != "auto" else _format(name)
    asked = {
        **{key: value for key, value in raw.items() if key != "answer"},
        "format": format,
        "text": _decoded(content),
        "terms": _pairs(fields.terms, "terms"),
        "tm_list": _pairs(fields.tm_list, "tm_list"),
    }
    return Upload(parse_request(TranslateRequest, asked), name or "text.txt", fields.answer == "file")


def _fields(form: FormData) -> tuple[dict[str, object], UploadFile | None]:
    """The fields of a form that are text, and its file.

    Raises:
        InvalidRequest: another field brings a file, a field comes twice, or the file is text.
    """
    raw: dict[str, object] = {}
    file: UploadFile | None = None
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name != _FILE:
                raise InvalidRequest(f"{name[:64]}: the file is called 'file'.", code="unknown_parameter")
            file = value
        elif name == _FILE:
            raise InvalidRequest("file: must be a file (of curl: -F file=@NAME).", param="file")
        elif name in raw:
            raise InvalidRequest(f"{name[:64]}: comes more than once.", param=name[:64])
        else:
            raw[name] = value
    return raw, file


def _format(name: str) -> Format:
    ending = PurePosixPath(name).suffix.lower()
    if ending not in ENDINGS:
        raise InvalidRequest(f"file: {one_of('ending', ending, ENDINGS)}; or state format.", param="file")
    return ENDINGS[ending]


def _decoded(content: bytes) -> str:
    if not content:
        raise InvalidRequest("file: the file is empty.", param="file", code="empty_file")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"file: must be text in UTF-8; byte {error.start} is not.", param="file", code="not_utf8"
        ) from None


def _pairs(text: str, param: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise InvalidRequest(f"{param}: must be a JSON list of {{source, target}}.", param=param) from None
