"""This group's own store: stored conversations with the feedback on them, in the form of its API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from train.dataset.exports.openai_chat import add_messages, tools_of
from train.dataset.exports.problems import Reason, Unusable
from train.dataset.exports.reader import Draft, ReadOptions
from train.dataset.exports.turns import Turns
from train.dataset.exports.values import moment, name_of, record, records, text_of
from train.dataset.rows import Message, RowFeedback, SourceName

Json = dict[str, Any]
FeedbackFilter = Literal["good", "bad", "corrected", "any"]


class Group:
    """Reads stored conversations; corrections replace answers, and the answers become ``rejected``.

    A request with several choices is a conversation with several branches. The corrected one comes first, then one
    that was liked, then the others by their index.

    Args:
        feedback: only answers that are ``good`` (liked, or corrected), ``bad`` (disliked, and not corrected),
            ``corrected``, or have ``any`` feedback. The latest rating and the latest correction count.
    """

    name: SourceName = "groupqwen"

    def __init__(self, feedback: FeedbackFilter | None = None) -> None:
        self._feedback = feedback

    def matches(self, value: Json) -> bool:
        """The API's object ``conversation``."""
        return value.get("object") == "conversation" and "request" in value and "choices" in value

    def read(self, value: Json, options: ReadOptions) -> Iterator[Draft]:
        """The wanted choices."""
        if not isinstance(value.get("choices"), list) or not isinstance(value.get("request"), dict):
            raise Unusable(Reason.WRONG_VALUE, "request is not an object, or choices is not a list")
        answers = [_Answer(choice, records(value.get("feedback"))) for choice in records(value["choices"])]
        wanted = sorted((answer for answer in answers if answer.is_(self._feedback)), key=lambda answer: answer.rank)
        for number, answer in enumerate(wanted if options.every_branch else wanted[:1]):
            yield _draft(value, answer, branch=str(answer.index) if number else None)


class _Answer:
    """A choice with what was thought of it."""

    def __init__(self, choice: Json, feedback: list[Json]) -> None:
        self.index = choice["index"] if isinstance(choice.get("index"), int) else 0
        self.message = record(choice.get("message"))
        self.rating: Literal["up", "down"] | None = None
        self.correction: str | None = None
        self.any = False
        for one in feedback:
            if one.get("choice") == self.index:
                self.any = True
                self.rating = one["rating"] if one.get("rating") in ("up", "down") else self.rating
                self.correction = text_of(one.get("correction")) or self.correction

    def is_(self, wanted: FeedbackFilter | None) -> bool:
        """Whether it passes the filter."""
        corrected = self.correction is not None
        return {
            None: True,
            "good": corrected or self.rating == "up",
            "bad": not corrected and self.rating == "down",
            "corrected": corrected,
            "any": self.any,
        }[wanted]

    @property
    def rank(self) -> tuple[bool, bool, int]:
        """What it is sorted by: the best first."""
        return self.correction is None, self.rating != "up", self.index


def _draft(value: Json, answer: _Answer, branch: str | None) -> Draft:
    asked = value["request"]
    turns = Turns()
    add_messages(turns, asked["messages"] if isinstance(asked.get("messages"), list) else [])
    rejected: tuple[Message, ...] = ()
    if answer.correction is None:
        add_messages(turns, [answer.message])
    else:
        turns.say("assistant", answer.correction)
        original = Turns()
        add_messages(original, [answer.message])
        rejected = original.finished()[0]
    messages, _ = turns.finished()
    feedback = RowFeedback(rating=answer.rating, corrected=answer.correction is not None)
    return Draft(
        messages,
        source_id=name_of(value.get("id")),
        branch=branch,
        created_at=moment(value.get("created")),
        models=tuple(filter(None, [name_of(value.get("model"))])),
        tools=tools_of(asked),
        rejected=rejected,
        tenant=name_of(value.get("tenant")),
        feedback=feedback if answer.any else None,
        dropped=turns.dropped,
    )
