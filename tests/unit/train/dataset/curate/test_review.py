"""The review: what is decided is kept, taken back and applied again; in a real terminal too."""

from __future__ import annotations

import os
import pty
import select
import signal
import sys
import time
from pathlib import Path

import pytest

from serve.settings.errors import SettingsError
from tests.unit.train.dataset.curate.samples import ROOT, job, many, row, rows_in, write_recipe, write_rows
from train.dataset.curate import Decisions, Report, Review, curate
from train.dataset.curate.review.editing import EditError, from_text, to_text
from train.dataset.rows import Message, Row

ROWS = many(6)


def decided(path: Path) -> dict[str, str]:
    """The verdicts of a file, by row."""
    decisions = Decisions(path)
    found = {one.id: decisions.on(one) for one in ROWS}
    return {id: decision.verdict for id, decision in found.items() if decision}


def with_decisions(tmp_path: Path, rows: list[Row]) -> Report:
    """The report of a run that finds the decisions of ``tmp_path/out``."""
    recipe = write_recipe(tmp_path / "r.yaml", {"step": "branch"})
    return curate(job([write_rows(tmp_path / "rows.jsonl", rows)], recipe, tmp_path / "out"))


def test_each_decision_is_in_the_file_at_once_and_is_not_asked_for_again(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    review = Review(ROWS, Decisions(path))
    review.keep()
    assert decided(path) == {"openai:0": "keep"}
    review.drop()
    review.skip()
    review.edit(row("Better?", "Better.", id=ROWS[3].id))
    assert decided(path) == {"openai:0": "keep", "openai:1": "drop", "openai:3": "edit"}
    again = Review(ROWS, Decisions(path))
    assert again.current == ROWS[2]
    again.keep()
    assert again.current == ROWS[4]
    assert path.stat().st_mode & 0o077 == 0


def test_undo_goes_back_over_decisions_and_skips(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    review = Review(ROWS, Decisions(path))
    assert not review.undo()
    review.drop()
    review.skip()
    assert review.undo() and review.current == ROWS[1]
    assert review.undo() and review.current == ROWS[0]
    assert decided(path) == {}
    review.keep()
    assert review.current == ROWS[1]
    assert decided(path) == {"openai:0": "keep"}


def test_at_the_end_there_is_nothing_to_decide_and_undo_still_works(tmp_path: Path) -> None:
    review = Review(ROWS[:1], Decisions(tmp_path / "decisions.jsonl"))
    review.keep()
    assert review.current is None
    with pytest.raises(LookupError):
        review.drop()
    assert review.undo() and review.current == ROWS[0]


def test_decisions_are_applied_in_every_later_run_and_counted(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    decisions = Decisions(tmp_path / "out" / "decisions.jsonl")
    decisions.add(ROWS[0], "drop")
    decisions.add(ROWS[1], "edit", row("Better?", "Better.", id=ROWS[1].id))
    for _ in range(2):
        report = with_decisions(tmp_path, ROWS)
        tally = dict(report.steps)["review"]
        assert (tally.kept, tally.changed, tally.dropped) == (4, 1, 1)
        found = {one.id: one for one in rows_in(tmp_path / "out")}
        assert "openai:0" not in found
        assert found["openai:1"].messages[1].content == "Better."


def test_a_decision_on_a_row_that_says_something_else_by_now_is_not_applied_and_told(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    Decisions(tmp_path / "out" / "decisions.jsonl").add(ROWS[0], "drop")
    report = with_decisions(tmp_path, [row("Other?", "Other.", id=ROWS[0].id), *ROWS[1:]])
    assert report.facts.outdated == 1
    assert len(rows_in(tmp_path / "out")) == 6
    assert "say something else by now" in report.text()


def test_a_line_that_was_cut_off_is_left_out_and_a_broken_one_is_told(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    Decisions(path).add(ROWS[0], "keep")
    path.write_bytes(path.read_bytes() + b'{"id": "openai:1", "dig')
    Decisions(path).add(ROWS[2], "drop")
    assert decided(path) == {"openai:0": "keep", "openai:2": "drop"}
    path.write_bytes(path.read_bytes() + b'{"id": "secret"}\n')
    with pytest.raises(SettingsError, match="line 4") as refused:
        Decisions(path)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("said", ["plain", "=== 1 user ===\nnot a heading", "", "\n\nlines\n", "שלום 🙂"])
def test_a_conversation_survives_being_text(said: str) -> None:
    subject = row(said or "?", said or "!")
    assert from_text(to_text(subject), subject) == subject


def test_an_edit_changes_and_removes_messages_with_their_times() -> None:
    subject = row("One?", "Two.", "Three.")
    text = to_text(subject).replace("Two.", "2.")
    assert [message.content for message in from_text(text, subject).messages][1] == "2."
    shorter = from_text(text[: text.index("=== 3 ")], subject)
    assert len(shorter.messages) == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: "words\n" + text, "above the first heading"),
        (lambda text: text + "=== 9 user ===\nmore\n", "headings"),
        (lambda text: text.replace("=== 2 assistant ===\nTwo.\n", ""), "no conversation any more"),
        (lambda text: text.replace("Two.", ""), "no conversation any more"),
        (lambda text: "", "no conversation any more"),
    ],
)
def test_an_edit_that_cannot_be_taken_is_told(change: object, told: str) -> None:
    subject = row("One?", "Two.", "Three.")
    assert callable(change)
    with pytest.raises(EditError, match=told):
        from_text(change(to_text(subject)), subject)


class Terminal:
    """The command in a terminal of its own."""

    def __init__(self, *arguments: str, editor: str) -> None:
        self.pid, self._handle = pty.fork()
        if self.pid == 0:
            os.environ["EDITOR"] = editor
            # Shells let what they start in the background ignore it, and that is inherited.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.environ.pop("VISUAL", None)
            os.execv(sys.executable, [sys.executable, str(ROOT / "scripts" / "curate_dataset.py"), *arguments])
        self.text = ""

    def until(self, words: str, seconds: float = 60) -> None:
        """Read until ``words`` appear behind what was read before."""
        start, end = len(self.text), time.monotonic() + seconds
        while words not in self.text[start:]:
            ready, _, _ = select.select([self._handle], [], [], max(0, end - time.monotonic()))
            assert ready, f"{words!r} did not appear in {self.text[start:]!r}"
            try:
                self.text += os.read(self._handle, 65536).decode("utf-8", "replace")
            except OSError:
                raise AssertionError(f"ended without {words!r}: {self.text[start:]}") from None

    def press(self, key: str) -> None:
        """Press a key."""
        os.write(self._handle, key.encode())

    def end(self) -> int:
        """The exit code, when all was read."""
        try:
            while os.read(self._handle, 65536):
                pass
        except OSError:
            pass
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self._handle)
        return code


def test_in_a_terminal_rows_are_kept_edited_dropped_undone_and_skipped(tmp_path: Path) -> None:
    hostile = row("steer\x1b[2J?", "Fine.", id="openai:9")
    rows = write_rows(tmp_path / "rows.jsonl", [*ROWS[:4], hostile])
    recipe = write_recipe(tmp_path / "r.yaml", {"step": "branch"})
    out = tmp_path / "out"
    terminal = Terminal(rows, "--recipe", recipe, "--out", str(out), "--review", editor="sed -i s/tide/ebb/g")
    for key in ("d", "u", "k", "e", "d", "s"):
        terminal.until("[q]uit > ")
        terminal.press(key)
    terminal.until("[q]uit > ")
    assert "\x1b[2J" not in terminal.text and "\\x1b[2J" in terminal.text
    terminal.press("q")
    assert terminal.end() == 0
    left = {one.id: one for one in rows_in(out)}
    assert sorted(left) == ["openai:0", "openai:1", "openai:3", "openai:9"]
    assert "ebb" in (left["openai:1"].messages[1].content or "")
    assert decided(out / "decisions.jsonl") == {"openai:0": "keep", "openai:1": "edit", "openai:2": "drop"}


def test_leaving_the_terminal_keeps_what_was_decided_and_writes_no_set(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", ROWS)
    recipe = write_recipe(tmp_path / "r.yaml", {"step": "branch"})
    terminal = Terminal(rows, "--recipe", recipe, "--out", str(tmp_path / "out"), "--review", editor="false")
    for key in ("e", "d", "\x03"):
        terminal.until("[q]uit > ")
        terminal.press(key)
    assert terminal.end() == 130
    assert "the editor failed" in terminal.text
    assert decided(tmp_path / "out" / "decisions.jsonl") == {"openai:0": "drop"}
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_message_without_content_can_be_shown_and_kept() -> None:
    messages = (Message(role="user", content="?"), Message(role="assistant", content="x"))
    subject = row().model_copy(update={"messages": messages})
    assert from_text(to_text(subject), subject) == subject
