"""Claude's artifacts as the text that the user saw: a heading and a fenced block, in the place of the card."""

from __future__ import annotations

import re
from typing import Any

from train.dataset.exports.values import name_of, text_of

_TAG = re.compile(r"<antArtifact\b([^>]*)>(.*?)(?:</antArtifact>|\Z)", re.DOTALL)
_ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')
_THINKING_TAG = re.compile(r"<antThinking>.*?(?:</antThinking>|\Z)", re.DOTALL)
_LANGUAGES = {
    "text/markdown": "markdown",
    "text/html": "html",
    "image/svg+xml": "svg",
    "application/vnd.ant.mermaid": "mermaid",
    "application/vnd.ant.react": "jsx",
}


class Artifacts:
    """The artifacts of one conversation, followed through their changes."""

    def __init__(self) -> None:
        self._known: dict[str, _Artifact] = {}

    def change(self, command: dict[str, Any]) -> str:
        """Carry out one call of the tool ``artifacts`` and give the artifact as it is then, as Markdown."""
        id = name_of(command.get("id")) or ""
        artifact = self._known.setdefault(id, _Artifact())
        artifact.title = name_of(command.get("title")) or artifact.title
        artifact.language = _language(command) or artifact.language
        if command.get("command") == "update":
            artifact.text = artifact.text.replace(text_of(command.get("old_str")), text_of(command.get("new_str")), 1)
        else:
            artifact.text = text_of(command.get("content")) or artifact.text
        return artifact.markdown()

    def in_text(self, text: str) -> str:
        """``text`` with the artifacts that older exports have as tags inside it."""
        text = _THINKING_TAG.sub("", text)
        return _TAG.sub(lambda tag: self.change(_command(tag[1], tag[2])), text)


class _Artifact:
    def __init__(self) -> None:
        self.title: str | None = None
        self.language = ""
        self.text = ""

    def markdown(self) -> str:
        if not self.text:
            return ""
        fence = "```"
        while fence in self.text:
            fence += "`"
        block = f"{fence}{self.language}\n{self.text.strip(chr(10))}\n{fence}"
        return f"**{self.title}**\n\n{block}" if self.title else block


def _command(attributes: str, content: str) -> dict[str, Any]:
    found = dict(_ATTRIBUTE.findall(attributes))
    return {**found, "id": found.get("identifier"), "command": "create", "content": content}


def _language(command: dict[str, Any]) -> str:
    return text_of(command.get("language")) or _LANGUAGES.get(text_of(command.get("type")), "")
