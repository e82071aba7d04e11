"""The review in a terminal: one key for each decision."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import termios
import tty
from collections.abc import Iterable
from pathlib import Path

from train.dataset.curate.review.decisions import Decisions
from train.dataset.curate.review.editing import EditError, from_text, to_text
from train.dataset.curate.review.session import Review
from train.dataset.rows import Message, Row

_SHOWN_CHARS = 2000
_KEYS = "[k]eep  [e]dit  [d]rop  [s]kip  [u]ndo  [m]ore  [q]uit"
_END = "\x03\x04"


def review_in_terminal(rows: Iterable[Row], total: int, decisions: Decisions) -> None:
    """Ask about each row until there is none left or the reviewer quits.

    Args:
        total: about how many rows there are.

    Raises:
        KeyboardInterrupt: by the reviewer.
    """
    review = Review(rows, decisions)
    shown: Row | None = None
    while (row := review.current) is not None:
        if row is not shown:
            _show(row, f"{len(decisions)} decided of {total} rows", _SHOWN_CHARS)
            shown = row
        key = _key()
        if key == "q":
            break
        if key == "m":
            _show(row, "the whole conversation", None)
        elif key == "u" and not review.undo():
            _say("there is nothing to undo")
        elif key == "e":
            _edit(review, row)
        elif key in _ACTIONS:
            _ACTIONS[key](review)
    _say(f"{review.decided} decided in this session, {len(decisions)} in all")


_ACTIONS = {"k": Review.keep, "d": Review.drop, "s": Review.skip}


def _key() -> str:
    """One key of the terminal, without waiting for the line to end."""
    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)
    try:
        # What was typed ahead stays.
        tty.setcbreak(handle, termios.TCSADRAIN)
        sys.stdout.write(f"{_KEYS} > ")
        sys.stdout.flush()
        found = os.read(handle, 1).decode("ascii", "replace")
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)
    if not found or found in _END:
        raise KeyboardInterrupt
    _say(found if found.isprintable() else "")
    return found.lower()


def _show(row: Row, heading: str, most: int | None) -> None:
    facts = [row.source, row.model, row.created_at and row.created_at.date().isoformat(), row.provenance.title]
    _say(f"\n--- {heading} ---\n{_plain(' | '.join(map(str, filter(None, facts))))}")
    for message in row.messages:
        mark = " (not learned from)" if message.role == "assistant" and message.weight == 0 else ""
        _say(f"\n{message.role}{mark}:\n{_cut(_text(message), most)}")
    for message in row.rejected or ():
        _say(f"\nrejected {message.role}:\n{_cut(_text(message), most)}")
    _say("")


def _text(message: Message) -> str:
    calls = [f"{call.function.name}({call.function.arguments})" for call in message.tool_calls or ()]
    thoughts = [f"(thinks) {message.reasoning_content}"] if message.reasoning_content else []
    return _plain("\n".join([*thoughts, *filter(None, [message.content]), *calls]))


def _cut(text: str, most: int | None) -> str:
    if most is None or len(text) <= most:
        return text
    return f"{text[:most]}\n... ({len(text) - most} more characters)"


def _plain(text: str) -> str:
    """What was said, without what steers a terminal."""
    return "".join(char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1] for char in text)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _edit(review: Review, row: Row) -> None:
    before = to_text(row)
    with tempfile.NamedTemporaryFile("w+", suffix=".txt", encoding="utf-8") as file:
        file.write(before)
        file.flush()
        try:
            subprocess.run([*_editor(), file.name], check=True)
            edited = from_text(Path(file.name).read_text(encoding="utf-8"), row)
        except (OSError, subprocess.CalledProcessError) as error:
            _say(f"the editor failed: {error}; name another with EDITOR")
        except (EditError, UnicodeDecodeError) as error:
            _say(f"not taken: {error}")
        else:
            if edited == row:
                _say("nothing was changed")
            else:
                review.edit(edited)


def _editor() -> list[str]:
    # The reviewer's own program, as git and crontab choose it; no setting of the group.
    return shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
