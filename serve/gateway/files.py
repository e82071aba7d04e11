"""OpenAI's Files API: uploads go to the disk while they come, and each caller sees its own files only."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, quote

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from serve.cluster import hold_back
from serve.errors import InvalidTrainingFile, RateLimited
from serve.gateway.caller import caller_of
from serve.gateway.keeper import Keeper
from serve.gateway.upload import FORM_BYTES, FileUpload, Form, Purpose, too_large
from serve.gateway.verdict import Verdicts
from serve.protocol.http import header, send_json
from serve.protocol.validation import parse_request
from serve.settings.gateway import FileLimits
from serve.store import FileRoom, Store, StoredFile
from serve.store.contents import Change
from serve.store.records import utc_now

#: How much of an upload goes to the disk at once, and of a file from it.
PIECE_BYTES = 1024 * 1024
#: How many of Serve's messages (up to 64 KiB each) of an upload wait in memory while the disk is busy.
_AHEAD = 32

Json = dict[str, Any]


class FileQuery(BaseModel):
    """Which files to list."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, frozen=True)

    limit: Annotated[int, Field(ge=1, le=10_000)] = 10_000
    after: str | None = None
    order: Literal["asc", "desc"] = "desc"
    purpose: Purpose | None = None


class Files:
    """The endpoints of files.

    Attributes:
        limits: what one caller may upload and keep; replaced when the deployment is reconfigured.
    """

    def __init__(self, store: Store, keeper: Keeper, limits: FileLimits) -> None:
        self.limits = limits
        self._rows = store.files
        self._keeper = keeper
        self._verdicts = Verdicts()
        self._under_way: Counter[str] = Counter()

    def close(self) -> None:
        """Begin no more validations."""
        self._verdicts.close()

    async def create(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take an upload; one of a training file that cannot be learned from is not kept."""
        tenant, limits = _tenant(scope), self.limits
        declared = header(scope, b"content-length") or b""
        length = int(declared) if declared.isdigit() else 0
        if length > limits.file_bytes + FORM_BYTES:
            raise too_large(limits.file_bytes)
        room = FileRoom(limits.stored_files, limits.stored_bytes)
        await self._rows.check_room(tenant, max(length - FORM_BYTES, 0), room)
        with self._one_more(tenant):
            file = await self._uploaded(tenant, scope, receive, limits)
        await send_json(send, file_body(file))

    async def list(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A page of the caller's files."""
        tenant = _tenant(scope)
        asked = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        query = parse_request(FileQuery, dict(asked))
        page = await self._rows.list(
            tenant, limit=query.limit, after=query.after, order=query.order, purpose=query.purpose
        )
        data = [file_body(one) for one in page.items]
        first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
        await send_json(
            send, {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": page.has_more}
        )

    async def get(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One file's object."""
        await send_json(send, file_body(await self._found(scope)))

    async def content(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A file's content, as it was uploaded."""
        file = await self._found(scope)
        content = await self._keeper.open(file)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _content_headers(file)})
            more = scope["method"] != "HEAD"
            while more:
                piece = await self._keeper.run(content.read, PIECE_BYTES)
                more = bool(piece)
                await send({"type": "http.response.body", "body": piece, "more_body": more})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body"})
        finally:
            self._keeper.close_content(content)

    async def delete(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Delete a file and its content."""
        file = await self._found(scope)
        await self._keeper.remove(file)
        await send_json(send, {"id": file.id, "object": "file", "deleted": True})

    async def _found(self, scope: Scope) -> StoredFile:
        return await self._rows.get(scope["path_params"]["id"], _tenant(scope))

    async def _uploaded(self, tenant: str, scope: Scope, receive: Receive, limits: FileLimits) -> StoredFile:
        """Take the upload apart, judge it and store it."""
        id = f"file-{secrets.token_hex(12)}"
        change = self._keeper.change(id)
        try:
            form = Form(header(scope, b"content-type"), change, limits.file_bytes)
            upload = await self._received(receive, form, limits.file_bytes)
            validation = await self._validation(change, upload)
        except BaseException:
            await self._keeper.discard(change)
            raise
        now = utc_now()
        file = StoredFile(
            id=id,
            tenant=tenant,
            created_at=now,
            filename=form.filename or "",
            purpose=upload.purpose,
            bytes=change.size,
            sha256=change.sha256,
            expires_at=_expiry(now, upload),
            validation=validation,
        )
        await self._keeper.keep(change, file, FileRoom(limits.stored_files, limits.stored_bytes))
        return file

    async def _received(self, receive: Receive, form: Form, file_bytes: int) -> FileUpload:
        hold_back(receive, _AHEAD)
        pieces: list[bytes] = []
        waiting = total = 0
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            more = message.get("more_body", False)
            pieces.append(message.get("body", b""))
            waiting += len(pieces[-1])
            total += len(pieces[-1])
            if total > file_bytes + FORM_BYTES:
                raise too_large(file_bytes)
            if waiting >= PIECE_BYTES or not more:
                await self._keeper.run(form.feed, b"".join(pieces))
                pieces, waiting = [], 0
        return await self._keeper.run(form.finish)

    async def _validation(self, change: Change, upload: FileUpload) -> Json | None:
        if upload.purpose != "fine-tune":
            return None
        found = await self._verdicts.of(change.part)
        if not found["valid"]:
            raise InvalidTrainingFile(found)
        return {name: value for name, value in found.items() if name not in ("valid", "errors")}

    @contextmanager
    def _one_more(self, tenant: str) -> Iterator[None]:
        """Count an upload that is under way."""
        if self._under_way[tenant] >= self.limits.uploads:
            raise RateLimited(
                f"{self.limits.uploads} uploads are under way, the most at once; try again when one is done.",
                code="too_many_uploads",
                retry_after=5,
            )
        self._under_way[tenant] += 1
        try:
            yield
        finally:
            self._under_way[tenant] -= 1
            if not self._under_way[tenant]:
                del self._under_way[tenant]


def file_body(file: StoredFile) -> Json:
    """A file as OpenAI's object, with this group's own fields ``sha256`` and ``validation``."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created_at.timestamp()),
        "expires_at": None if file.expires_at is None else int(file.expires_at.timestamp()),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
        "sha256": file.sha256,
        "validation": file.validation,
    }


def _tenant(scope: Scope) -> str:
    caller = caller_of(scope)
    caller.require("files")
    return caller.tenant


def _expiry(now: datetime, upload: FileUpload) -> datetime | None:
    return None if upload.expires_after is None else now + timedelta(seconds=upload.expires_after.seconds)


def _content_headers(file: StoredFile) -> list[tuple[bytes, bytes]]:
    # What was uploaded must not run as a page of this origin.
    return [
        (b"content-type", b"application/octet-stream"),
        (b"content-length", str(file.bytes).encode()),
        (b"content-disposition", f"attachment; filename*=UTF-8''{quote(file.filename, safe='')}".encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
