"""The requests of the translation task, typed and checked.

``TranslationOptions`` are Qwen-MT's (https://help.aliyun.com/en/model-studio/machine-translation): a chat completion
may bring them as ``translation_options``, and ``/v1/translate`` takes the same fields beside its text.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, frozen=True)


class Pair(_Body):
    """A source text and its translation: a term, or an entry of a translation memory."""

    source: Annotated[str, Field(min_length=1, max_length=10_000)]
    target: Annotated[str, Field(min_length=1, max_length=10_000)]


class TranslationOptions(_Body):
    """What to translate between, and how. Languages by name, code, BCP-47 tag or ISO 639-3, in any case; `auto` as
    source is detected. `terms` are held to in the output; of a long `tm_list` the nearest entries are shown;
    `domains` says in English what the text is about."""

    source_lang: Annotated[str, Field(min_length=1, max_length=64)] = "auto"
    target_lang: Annotated[str, Field(min_length=1, max_length=64)]
    terms: Annotated[list[Pair], Field(max_length=1000)] = []
    tm_list: Annotated[list[Pair], Field(max_length=10_000)] = []
    domains: Annotated[str, Field(max_length=2000)] | None = None


Format = Literal["auto", "text", "markdown", "html", "json", "po", "srt", "vtt"]


class TranslateRequest(TranslationOptions):
    """``POST /v1/translate``. `text` is one text or several; `model` is who translates: an id, `id:adapter` or
    `auto`, by default what the task's config says. A passage that the model cannot be asked for stays as it is and is
    reported, or with `strict` fails the request."""

    text: str | Annotated[list[str], Field(min_length=1)]
    format: Format = "auto"
    model: Annotated[str, Field(min_length=1)] | None = None
    stream: bool = False
    strict: bool = False

    @property
    def texts(self) -> list[str]:
        """The texts as a list."""
        return [self.text] if isinstance(self.text, str) else self.text


class TranslateFile(_Body):
    """``POST /v1/translate`` as ``multipart/form-data``: the fields of a JSON request, of which `terms` and `tm_list`
    are JSON text, with a file in place of `text`. The answer is the translated file; a report with `answer=json`."""

    file: Annotated[bytes, Field(json_schema_extra={"format": "binary"})]
    target_lang: str
    source_lang: str = "auto"
    terms: str = "[]"
    tm_list: str = "[]"
    domains: str | None = None
    format: Format = "auto"
    model: str | None = None
    strict: bool = False
    answer: Literal["file", "json"] = "file"


class DetectRequest(_Body):
    """``POST /v1/detect``: one text or several."""

    text: str | Annotated[list[str], Field(min_length=1, max_length=10_000)]
    alternatives: Annotated[int, Field(ge=0, le=10)] = 3

    @property
    def texts(self) -> list[str]:
        """The texts as a list."""
        return [self.text] if isinstance(self.text, str) else self.text

    @field_validator("text")
    @classmethod
    def _is_bounded(cls, text: str | list[str]) -> str | list[str]:
        size = len(text) if isinstance(text, str) else sum(map(len, text))
        if size > _MOST_DETECTED:
            raise ValueError(f"{size} characters; the most allowed is {_MOST_DETECTED}")
        return text


#: Detection takes microseconds a character; this keeps one request from holding a replica.
_MOST_DETECTED = 1_000_000
