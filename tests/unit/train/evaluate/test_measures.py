"""What must be kept is what the base wrote, and no token more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.unit.train.dataset.formats.models import chat
from tests.unit.train.dataset.formats.rows import answer, row, user
from train.dataset.formats import Encoded, EncodeSettings
from train.evaluate.measures import known_answers, retention_of
from train.evaluate.stack import Scored, Stack, Written, written

CHAT = chat()
END = CHAT.tokenizer.convert_tokens_to_ids("<|im_end|>")
#: What the base writes to each prompt: one answer that it ends, one that is cut off, and none.
GENERATED = {
    "Short?": [*CHAT.tokens("is Pa").ids, END, 0, 0],
    "Long?": CHAT.tokens("is is is").ids,
    "Mute?": [END, 0, 0],
}


class Fixed(Stack):
    """Writes what it is told to, and keeps what it has to score."""

    def __init__(self) -> None:
        self.chat = CHAT
        self.scored: list[Encoded] = []

    def write(self, prompts: Sequence[str], max_tokens: int, **_: Any) -> list[Written]:
        return [
            written(CHAT, CHAT.tokens(prompt).ids, GENERATED[question], [END])
            for prompt in prompts
            for question in GENERATED
            if question in prompt
        ]

    def score(self, sequences: Sequence[Encoded], **_: Any) -> list[Scored]:
        self.scored = list(sequences)
        return [Scored([-1.0] * sum(one.learned)) for one in sequences]


def test_the_end_of_an_answer_is_scored_where_the_base_wrote_it_and_nowhere_else() -> None:
    stack = Fixed()
    found = retention_of(stack, list(GENERATED), 9, EncodeSettings(), [], lambda count: None)
    learned = [
        [token for token, wanted in zip(one.input_ids, one.learned, strict=True) if wanted] for one in stack.scored
    ]
    assert learned == [GENERATED["Short?"][:3], GENERATED["Long?"]]
    assert learned[0][-1] == END and END not in learned[1]
    assert (found.prompts, found.unanswered, found.loss.tokens) == (3, 1, sum(map(len, learned)))
    assert [one.base for one in found.samples] == ["is Pa", "is is is", ""]
    for question, one in zip(GENERATED, stack.scored, strict=False):
        assert question in CHAT.tokenizer.decode(one.input_ids)


def test_a_held_out_answer_is_known_where_training_has_it_under_another_question() -> None:
    trained = [row(user("Where is it?"), answer("It is  here."), user("Sure?"), answer("Perhaps.", weight=0))]
    held_out = [
        row(user("Can you tell me where it is?"), answer("it is here.")),
        row(user("Where?"), answer("It is here."), user("And?"), answer("No.")),
        row(user("Sure?"), answer("Perhaps.")),
        row(user("Sure?"), answer("It is here.", weight=0)),
    ]
    assert known_answers(held_out, trained) == 1
