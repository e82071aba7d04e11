"""People's names, by Microsoft Presidio's analyzer over a spaCy model, where both are installed.

Presidio's recognizers for numbers are not used: they have fewer check digits than what is here, and some of them ask
the network. What it is used for is what it does best: the engine, its threshold and its registry, in which a site may
have recognizers of its own.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from train.dataset.personal.settings import PersonalDataSettings
from train.dataset.personal.spans import Span

if TYPE_CHECKING:
    from presidio_analyzer import AnalyzerEngine

ENTITY = "PERSON"
#: spaCy reads no more than a million characters at once; and what is here cut is cut between words.
_PIECE = 100_000


class NamesUnavailable(Exception):
    """``names: required``, and what finds them is not installed; the message says what is missing."""


class Names:
    """Finds names with an analyzer.

    Args:
        engine: what analyses; its registry has a recognizer of ``PERSON``.
        language, score: as in ``PersonalDataSettings``.
    """

    def __init__(self, engine: AnalyzerEngine, language: str, score: float) -> None:
        self._engine = engine
        self._language = language
        self._score = score

    def find(self, text: str) -> Iterator[Span]:
        """The names in a text."""
        start = 0
        while start < len(text):
            end = min(start + _PIECE, len(text))
            if end < len(text):
                end = max(text.rfind(" ", start, end), text.rfind("\n", start, end)) + 1 or end
            piece = text[start:end]
            found = self._engine.analyze(
                text=piece, language=self._language, entities=[ENTITY], score_threshold=self._score
            )
            for one in found:
                name = " ".join(piece[one.start : one.end].casefold().split())
                if any(char.isalpha() for char in name):
                    yield Span(start + one.start, start + one.end, "name", name)
            start = end


def names(settings: PersonalDataSettings) -> Names | None:
    """What finds names, by the settings; none when it is off, or is not installed and need not be.

    Raises:
        NamesUnavailable: it must be installed and is not.
    """
    if settings.names == "off":
        return None
    missing = _missing(settings.name_model)
    if not missing:
        return Names(_engine(settings), settings.name_language, settings.name_score)
    if settings.names == "required":
        raise NamesUnavailable(
            f"names: required needs {missing}, which is not installed; docs/personal-data.md says how"
        )
    return None


def names_missing(settings: PersonalDataSettings) -> str | None:
    """What is not installed of that which finds names; none when it is all there, or names are off."""
    return None if settings.names == "off" else _missing(settings.name_model)


def names_version(settings: PersonalDataSettings) -> str:
    """What finds names, with its versions: where it differs, other names are found."""
    if settings.names == "off" or names_missing(settings):
        return "none"
    parts = ("presidio-analyzer", "spacy", settings.name_model)
    return ", ".join(f"{part} {_version(part)}" for part in parts)


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "of an unknown version"


def _missing(model: str) -> str | None:
    # Asked before Presidio is, which would download the model.
    for module, what in (
        ("presidio_analyzer", "presidio-analyzer"),
        ("spacy", "spacy"),
        (model, f"the spaCy model {model}"),
    ):
        if importlib.util.find_spec(module) is None:
            return what
    return None


def _engine(settings: PersonalDataSettings) -> Any:  # noqa: ANN401
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import NlpEngineProvider
    from presidio_analyzer.predefined_recognizers import SpacyRecognizer

    language = settings.name_language
    models = [{"lang_code": language, "model_name": settings.name_model}]
    engine = NlpEngineProvider(nlp_configuration={"nlp_engine_name": "spacy", "models": models}).create_engine()
    recognizer = SpacyRecognizer(supported_language=language, supported_entities=[ENTITY])
    registry = RecognizerRegistry(recognizers=[recognizer], supported_languages=[language])
    return AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=[language])
