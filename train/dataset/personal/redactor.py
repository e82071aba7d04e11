"""A row with its personal data replaced: every text of it, with tool calls that are JSON as before."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from train.dataset.personal.finder import Finder
from train.dataset.personal.names import names
from train.dataset.personal.placeholders import Placeholders
from train.dataset.personal.settings import Kind, PersonalDataSettings
from train.dataset.personal.tokens import is_secret
from train.dataset.rows import FunctionCall, Message, Provenance, Row, ToolCall

#: A value of a JSON text, or a bracket around several.
_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*|true|false|null|[\[\]{}]', re.DOTALL)
_COLON = re.compile(r"\s*:")


@dataclass(frozen=True, slots=True)
class Redacted:
    """A row without what was found.

    Attributes:
        row: the same row, and the same object where nothing was found.
        found: how many places of each kind were replaced; never what stood there.
    """

    row: Row
    found: dict[str, int]


class PersonalData:
    """Replaces personal data by placeholders. Can be pickled; what finds names is loaded at the first use."""

    def __init__(self, settings: PersonalDataSettings) -> None:
        self._settings = settings
        self._salt = settings.salt.get_secret_value().encode()[:64] if settings.salt else None
        self._ready: Finder | None = None

    def redact(self, row: Row) -> Redacted:
        """Replace what is found in messages (contents, thoughts, names, calls), ``rejected``, tools and the title.

        Raises:
            NamesUnavailable: the settings require names, and what finds them is not installed.
            pydantic.ValidationError: the row is too large with the placeholders, which can be longer than what they
                replace.
        """
        work = _Work(self._finder, row, self._salt if self._settings.placeholder == "keyed" else None)
        changes = _changed(
            row,
            messages=work.messages(row.messages),
            rejected=work.messages(row.rejected),
            tools=None if row.tools is None else tuple(work.value(tool) for tool in row.tools),
            provenance=work.provenance(row.provenance),
        )
        return Redacted(Row.model_validate({**dict(row), **changes}) if changes else row, dict(work.found))

    @property
    def _finder(self) -> Finder:
        if self._ready is None:
            self._ready = Finder(self._settings, names(self._settings))
        return self._ready

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ready": None}


class _Work:
    """One row's redaction: its placeholders are made when the first thing is found."""

    def __init__(self, finder: Finder, row: Row, salt: bytes | None) -> None:
        self._finder = finder
        self._row = row
        self._salt = salt
        self._placeholders: Placeholders | None = None

    @property
    def found(self) -> dict[str, int]:
        return self._placeholders.found if self._placeholders else {}

    def messages(self, messages: tuple[Message, ...] | None) -> tuple[Message, ...] | None:
        return None if messages is None else tuple(self._message(message) for message in messages)

    def provenance(self, provenance: Provenance) -> Provenance:
        changes = _changed(
            provenance,
            title=self._optional(provenance.title),
            file=self._optional(provenance.file),
            member=self._optional(provenance.member),
        )
        return provenance.model_copy(update=changes) if changes else provenance

    def value(self, value: Any, name: str = "") -> Any:  # noqa: ANN401
        """Any JSON value, keys of objects included; numbers that are personal data become placeholders."""
        if isinstance(value, str):
            return self._secret(value) if is_secret(name, value) else self.text(value, name=name)
        if isinstance(value, dict):
            return {self.text(key): self.value(one, key) for key, one in value.items()}
        if isinstance(value, list):
            return [self.value(one, name) for one in value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            written = str(value)
            replaced = self.text(written, name=name)
            return value if replaced == written else replaced
        return value

    def text(self, text: str, write: Callable[[str], str] = "[{}]".format, name: str = "") -> str:
        """A text with what was found replaced; what it is called says more about it: ``{"phone": "4155552671"}``."""
        before = f"{name}: " if name else ""
        parts, done = [], 0
        for span in self._finder.find(before + text):
            start, end = max(span.start - len(before), 0), span.end - len(before)
            if end > 0:
                parts += [text[done:start], write(self._name(span.kind, span.value))]
                done = end
        return "".join([*parts, text[done:]]) if parts else text

    def _message(self, message: Message) -> Message:
        calls = message.tool_calls
        changes = _changed(
            message,
            content=self._optional(message.content),
            reasoning_content=self._optional(message.reasoning_content),
            # OpenAI's API takes no brackets in names.
            name=None if message.name is None else self.text(message.name, str),
            tool_calls=None if calls is None else tuple(self._call(call) for call in calls),
        )
        return Message.model_validate({**dict(message), **changes}) if changes else message

    def _call(self, call: ToolCall) -> ToolCall:
        arguments = self._arguments(call.function.arguments)
        if arguments == call.function.arguments:
            return call
        return call.model_copy(update={"function": FunctionCall(name=call.function.name, arguments=arguments)})

    def _arguments(self, text: str) -> str:
        """The arguments of a call: JSON stays JSON, written as it was; what is none is a text like any other."""
        try:
            orjson.loads(text)
        except orjson.JSONDecodeError:
            return self.text(text)
        parts, done, key = [], 0, ""
        around = [""]  # What values are called by the brackets around them: those of an array, as it is.
        for found in _JSON_TOKEN.finditer(text):
            piece = found[0]
            if piece in ("[", "{"):
                around.append(key if piece == "[" else "")
            elif piece in ("]", "}"):
                around.pop()
            else:
                value = orjson.loads(piece)
                replaced = self.value(value, key)
                if replaced != value:
                    parts += [text[done : found.start()], orjson.dumps(replaced).decode()]
                    done = found.end()
                if isinstance(value, str) and _COLON.match(text, found.end()):
                    key = value
                    continue
            key = around[-1]
        return "".join([*parts, text[done:]])

    def _optional(self, text: str | None) -> str | None:
        return self.text(text) if text else text

    def _secret(self, value: str) -> str:
        return f"[{self._name('secret', value)}]"

    def _name(self, kind: Kind, value: str) -> str:
        if self._placeholders is None:
            self._placeholders = Placeholders(self._row.to_json(), self._salt)
        return self._placeholders.name(kind, value)


def _changed(model: Message | Row | Provenance, **fields: object) -> dict[str, object]:
    """Those of ``fields`` that are not as ``model`` has them."""
    return {name: value for name, value in fields.items() if value != getattr(model, name)}
