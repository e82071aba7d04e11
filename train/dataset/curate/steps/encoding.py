"""Text that was read with the wrong encoding, or is no text."""

from __future__ import annotations

import re
from typing import Literal

from train.dataset.curate.base import Context, RowStep, Share
from train.dataset.curate.outcome import KEPT, Changed, Dropped, Outcome, RowFunction
from train.dataset.rows import Message, Row

# Control characters but for tab and line ends, private use, and code points that are no characters.
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\ue000-\uf8ff\ufdd0-\ufdef\ufffe\uffff]")


class Encoding(RowStep):
    """Repair or drop rubbish, in what anybody says.

    Attributes:
        repair: put right what was decoded twice (``cafÃ©``), by ftfy, which changes only what it is sure of.
        mojibake: the largest share of such sequences that may be left in a message.
        replacements: the largest share of U+FFFD in a message.
        controls: the largest share of control and private characters in a message.
    """

    step: Literal["encoding"] = "encoding"
    repair: bool = True
    mojibake: Share = 0.01
    replacements: Share = 0.01
    controls: Share = 0.01

    def build(self, context: Context) -> RowFunction:
        """Repair, then judge."""
        from ftfy import fix_encoding
        from ftfy.badness import is_bad

        def repaired(message: Message) -> Message:
            text = message.content
            if text is None or text.isascii() or not is_bad(text):
                return message
            fixed = fix_encoding(text)
            return message if fixed == text else message.model_copy(update={"content": fixed})

        def judge(row: Row) -> Outcome:
            messages = tuple(map(repaired, row.messages)) if self.repair else row.messages
            reason = next(filter(None, (self._fault(message.content or "") for message in messages)), None)
            if reason is not None:
                return Dropped(reason)
            count = sum(new is not old for new, old in zip(messages, row.messages, strict=True))
            return Changed(row.model_copy(update={"messages": messages}), {"repaired": count}) if count else KEPT

        return judge

    def _fault(self, text: str) -> str | None:
        from ftfy.badness import badness

        if not text or (text.isascii() and text.isprintable()):
            return None
        if text.count("\ufffd") > self.replacements * len(text):
            return "replacement_characters"
        if len(_NO_TEXT.findall(text)) > self.controls * len(text):
            return "control_characters"
        return "mojibake" if not text.isascii() and badness(text) > self.mojibake * len(text) else None
