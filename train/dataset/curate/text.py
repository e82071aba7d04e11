"""What a text is made of: prose and code, words."""

from __future__ import annotations

import re
from dataclasses import dataclass

from train.dataset.rows import Row

#: Scripts that are written without spaces between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"

_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
# CommonMark, section 4.5; inside lists fences are indented further, so any indentation counts.
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})(.*)")


@dataclass(frozen=True, slots=True)
class Parts:
    """A text without its fenced code.

    Attributes:
        prose: the lines outside of fences.
        open: whether the last fence is never closed.
        ends_in_code: whether nothing but space follows the last fence.
    """

    prose: str
    open: bool
    ends_in_code: bool


def parts(text: str) -> Parts:
    """Take the fenced code out of ``text``."""
    if "```" not in text and "~~~" not in text:
        return Parts(text, open=False, ends_in_code=False)
    prose: list[str] = []
    fence = ""
    code_last = False
    for line in text.split("\n"):
        found = _FENCE.fullmatch(line)
        if fence:
            closes = found and found[1].startswith(fence) and not found[2].strip()
            fence, code_last = ("" if closes else fence), True
        elif found and not (found[1][0] == "`" and "`" in found[2]):
            fence, code_last = found[1], True
        else:
            prose.append(line)
            code_last = code_last and not line.strip()
    return Parts("\n".join(prose), open=bool(fence), ends_in_code=code_last)


def words(text: str) -> list[str]:
    """The words of ``text`` in lower case; in scripts without spaces each character is one."""
    return _WORD.findall(text.lower())


def talk(row: Row) -> str:
    """What user and assistant said, without code."""
    return "\n".join(parts(message.content or "").prose for message in row.messages if message.role in _TALK)


_TALK = ("user", "assistant")
