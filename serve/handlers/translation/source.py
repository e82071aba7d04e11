"""A text to translate: what it is made of, and what language it is in."""

from __future__ import annotations

from dataclasses import dataclass, replace

from serve.handlers.translation.detect import Detection, detect
from serve.handlers.translation.document import Document, Entry, Part, Segment, segments
from serve.handlers.translation.formats import read
from serve.handlers.translation.languages import AUTO, Language, find_language, languages
from serve.protocol.translation import Format

_SURE = 0.55


@dataclass(frozen=True, slots=True)
class Source:
    """A text, and what it is in.

    Attributes:
        language: of the text; none where there is nothing to translate.
        notes: what a client should know of it.
    """

    text: str
    document: Document
    language: Language | None
    confidence: float | None
    notes: tuple[str, ...] = ()


def source_of(text: str, format: Format, source_lang: str, target: Language) -> Source:
    """A text taken apart, with its language found where it is not given.

    Raises:
        InvalidRequest: it is not what its format says, or the language is unknown.
    """
    document = read(text, format)
    prose = "\n".join(part.text for part in segments(document))
    if not prose:
        return Source(text, [text] if text else [], None, None, ("there is nothing to translate",))
    notes: list[str] = []
    confidence = None
    if source_lang.strip().lower() == AUTO:
        found = detect(prose)
        confidence = found.confidence
        mixed = len(found.shares) > 1
        there = found.code == target.code and confidence >= _SURE and not mixed
        language = target if there else _foreign(found, target)
        notes += [f"source language: {found.note}"] if found.note else []
        if confidence < _SURE:
            notes.append(f"source language: {language.name} is a guess; state source_lang to be sure")
        if mixed:
            document = [_left(part, target) for part in document]
    else:
        language = find_language(source_lang, "source_lang")
    if language.code == target.code:
        return Source(text, [text], language, confidence, (*notes, "the text is in the target language already"))
    return Source(text, document, language, confidence, tuple(notes))


def _foreign(found: Detection, target: Language) -> Language:
    """The likeliest language that is not the target's: what is in that already needs no translation."""
    codes = [found.code, *(code for code, _ in found.alternatives)]
    code = next((code for code in codes if code not in (None, target.code)), None)
    return languages()[code or ("en" if target.code != "en" else "zh")]


def _left(part: Part, target: Language) -> Part:
    """A part of a mixed document; a segment stays as it is where it surely is in the target language."""
    if isinstance(part, Entry):
        return replace(part, parts=tuple(_left_segment(one, target) for one in part.parts))
    return _left_segment(part, target)


def _left_segment(part: str | Segment, target: Language) -> str | Segment:
    if isinstance(part, str):
        return part
    found = detect(part.text)
    stays = found.code == target.code and found.confidence >= _SURE and len(found.shares) < 2
    return part.untouched if stays else part
