"""Requests of the vision task, as JSON or as a form with files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message, Scope

from serve.errors import InvalidRequest
from serve.protocol.http import header
from serve.protocol.validation import parse_json, parse_request
from serve.protocol.vision import AnalyzeRequest

_FORM = b"multipart/form-data"
_FILE = "image"
_MAX_FIELDS = 16
_MAX_FIELD_BYTES = 256 * 1024
#: Fields of a form whose text is JSON.
_JSON = frozenset({"schema", "annotate", "max_tokens"})


@dataclass(frozen=True, slots=True)
class Asked:
    """A request and its pictures: addresses, or files.

    Attributes:
        params: the request's field of each picture.
    """

    request: AnalyzeRequest
    sources: Sequence[str | bytes]
    params: Sequence[str]


async def read_request(scope: Scope, body: bytes, most: int) -> Asked:
    """The request in ``body``.

    Args:
        most: pictures that it may bring.

    Raises:
        InvalidRequest: it is broken, or asks for what there is not.
    """
    if (header(scope, b"content-type") or b"").startswith(_FORM):
        return await _read_form(scope, body, most)
    request = parse_request(AnalyzeRequest, parse_json(body))
    check_count(len(request.images), most)
    return Asked(request, request.images, [f"images[{place}]" for place in range(len(request.images))])


def check_count(count: int, most: int) -> None:
    """See that a request has at most ``most`` pictures.

    Raises:
        InvalidRequest: it has more.
    """
    if count > most:
        raise InvalidRequest(f"images: {count} pictures; the most allowed is {most}.", param=f"images[{most}]")


async def _read_form(scope: Scope, body: bytes, most: int) -> Asked:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    files: list[bytes] = []
    raw: dict[str, object] = {}
    try:
        # One file more than allowed is let through, for an error that says so.
        async with Request(scope, receive).form(
            max_files=most + 1, max_fields=_MAX_FIELDS, max_part_size=_MAX_FIELD_BYTES
        ) as form:
            for name, value in form.multi_items():
                if isinstance(value, UploadFile):
                    if name != _FILE:
                        raise InvalidRequest(f"{name[:64]}: files are called 'image'.", code="unknown_parameter")
                    files.append(await value.read())
                elif name in raw or name in ("images", _FILE):
                    raise InvalidRequest(
                        f"{name}: pictures of a form are files called 'image'; other fields come once.",
                        param=name,
                    )
                else:
                    raw[name] = _value(name, value)
    except HTTPException as failure:
        raise InvalidRequest(f"The form cannot be read: {failure.detail}", code="invalid_form") from None
    check_count(len(files), most)
    # The model wants addresses; the files stand for them.
    request = parse_request(AnalyzeRequest, {**raw, "images": [_FILE] * len(files)})
    return Asked(request, files, [_FILE] * len(files))


def _value(name: str, text: str) -> object:
    if name not in _JSON:
        return text
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise InvalidRequest(f"{name}: in a form, this field is JSON text.", param=name) from None
