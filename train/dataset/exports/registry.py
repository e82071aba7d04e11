"""Every source by its name, and which of them a conversation is of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from train.dataset.exports.alpaca import Alpaca
from train.dataset.exports.chatgpt import ChatGPT
from train.dataset.exports.claude import Claude
from train.dataset.exports.group import Group
from train.dataset.exports.openai_chat import OpenAIChat
from train.dataset.exports.openwebui import OpenWebUI
from train.dataset.exports.perplexity import Perplexity
from train.dataset.exports.reader import Reader
from train.dataset.exports.sharegpt import ShareGPT
from train.dataset.exports.values import records

#: In the order in which they are asked: the plainest shapes last.
READERS: dict[str, Reader] = {
    reader.name: reader
    for reader in (ChatGPT(), Claude(), Group(), OpenWebUI(), Perplexity(), ShareGPT(), Alpaca(), OpenAIChat())
}

_WRAPPERS = ("conversations", "threads", "chats", "data")


class Readers:
    """The sources that are looked for.

    Args:
        only: the name of the one source; none for every source.
        group: the reader of this group's own conversations, where it is not the plain one.

    Raises:
        KeyError: there is no such source.
    """

    def __init__(self, only: str | None = None, group: Group | None = None) -> None:
        known = READERS if group is None else READERS | {group.name: group}
        self._readers = list(known.values()) if only is None else [known[only]]

    def of(self, value: dict[str, Any]) -> Reader | None:
        """The source that ``value`` is a conversation of."""
        return next((reader for reader in self._readers if reader.matches(value)), None)

    def know(self, value: dict[str, Any]) -> bool:
        """Whether ``value`` is a conversation."""
        return self.of(value) is not None

    def unwrapped(self, value: dict[str, Any]) -> Iterator[object]:
        """The conversations inside an object that is none itself, where it holds a list of them; else itself."""
        lists = [value[key] for key in _WRAPPERS if any(self.know(one) for one in records(value.get(key)))]
        if self.know(value) or not lists:
            yield value
        else:
            yield from lists[0]
