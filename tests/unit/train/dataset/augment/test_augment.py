"""Augmentation over real HTTP: marking, budget, resuming, servers on bad days, and the command."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from starlette.types import Receive, Scope, Send

from serve.protocol.http import read_body
from serve.settings.upstream import UpstreamEngine, UpstreamRetries
from tests.unit.gateway.group import listening
from tests.unit.handlers.upstream_server import USAGE, Answer, error, whole
from tests.unit.train.dataset.formats.rows import answer, call, chat, result, row, user
from train.dataset.augment import Augmentation, AugmentSettings, AugmentStopped, JournalError, augment
from train.dataset.augment.checks import Refused
from train.dataset.augment.command import main
from train.dataset.formats import InputError, SplitSettings, placed
from train.dataset.rows import Row

ALL = SplitSettings(train=1, validation=0)
PARAPHRASE = AugmentSettings(kind="paraphrase", split=ALL)
GERMAN = AugmentSettings(kind="translation", languages={"de": "German"}, split=ALL)
USED = USAGE["prompt_tokens"] + USAGE["completion_tokens"]  # type: ignore[operator]


def reworded(text: str, told: str) -> str:
    return f"Please: {text}"


@dataclass
class Model:
    """A server whose model answers by a function; ``bad`` are its next answers before that.

    Attributes:
        asked: each request's body, with its headers.
        most: how many were under way at once.
    """

    say: Callable[[str, str], str] = reworded
    finish: str = "stop"
    bad: list[Answer] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    most: int = 0
    _now: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = orjson.loads(await read_body(scope, receive, 1 << 20))
        self.asked.append(body)
        self.keys.append(dict(scope["headers"]).get(b"authorization", b"").decode())
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(0.01)
        self._now -= 1
        if self.bad:
            await self.bad.pop(0)(send)
            return
        told, asked = (message["content"] for message in body["messages"])
        message = {"role": "assistant", "content": self.say(asked, told)}
        choice = {"index": 0, "message": message, "finish_reason": self.finish}
        await whole({"id": "x", "choices": [choice], "usage": USAGE})(send)


@asynccontextmanager
async def served(model: Model, **fields: Any) -> Any:
    quick = UpstreamRetries(count=2, backoff=0.001, longest=2.0)
    async with listening(model) as address:
        yield UpstreamEngine(base_url=f"http://{address}/v1", model="writer-1", retries=quick, **fields)


def write(path: Path, *rows: Row) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(one.to_json() for one in rows))
    return path


def read(path: Path) -> list[Row]:
    return [Row.from_json(line) for line in path.read_bytes().splitlines()]


async def run(
    tmp_path: Path, model: Model, *rows: Row, settings: AugmentSettings = PARAPHRASE, **fields: Any
) -> tuple[Augmentation, list[Row]]:
    path = write(tmp_path / "rows.jsonl", *rows)
    async with served(model, **fields) as server:
        done = await asyncio.to_thread(augment, [path], tmp_path / "out.jsonl", settings, server)
    return done, read(tmp_path / "out.jsonl")


def said(found: Row) -> list[str | None]:
    return [message.content for message in found.messages]


def many(count: int) -> list[Row]:
    return [row(user(f"Question number {n}?"), answer("Yes."), id=f"openai:{n}") for n in range(count)]


TALK = row(
    {"role": "system", "content": "Be brief."},
    user("Weather in Oslo?"),
    answer("Let me see.", tool_calls=[call("f")], reasoning_content="look"),
    result("sunny"),
    answer("Sunny."),
    rejected=[answer("Rain.")],
    provenance={"file": "a.json", "times": [None] * 5},
)


async def test_a_paraphrase_has_other_questions_and_the_same_answers_and_says_what_it_is(tmp_path: Path) -> None:
    model = Model()
    done, [made] = await run(tmp_path, model, TALK)
    assert said(made) == ["Be brief.", "Please: Weather in Oslo?", "Let me see.", "sunny", "Sunny."]
    assert made.messages[2] == TALK.messages[2]
    assert (made.id, made.rejected) == ("openai:1~paraphrase-1", None)
    assert made.provenance.augmented is not None
    assert made.provenance.augmented.model_dump() == {"kind": "paraphrase", "model": "writer-1", "of": "openai:1"}
    assert made.provenance.file == "a.json"
    assert (done.read, done.written, done.tokens) == (1, 1, USED)
    assert model.asked[0]["model"] == "writer-1"


async def test_a_translation_has_what_both_sides_say_and_keeps_what_tools_do(tmp_path: Path) -> None:
    model = Model(lambda text, told: f"{text} {'(deutsch)' if 'into German' in told else ''}")
    _, [made] = await run(tmp_path, model, TALK, settings=GERMAN)
    assert said(made) == [
        "Be brief.",
        "Weather in Oslo? (deutsch)",
        "Let me see. (deutsch)",
        "sunny",
        "Sunny. (deutsch)",
    ]
    assert made.messages[2].tool_calls == TALK.messages[2].tool_calls
    assert made.messages[2].reasoning_content is None
    assert made.id == "openai:1~de"
    assert made.provenance.augmented is not None and made.provenance.augmented.language == "de"


async def test_each_copy_and_language_is_a_row_and_equal_copies_are_one(tmp_path: Path) -> None:
    numbers = iter(range(100))
    model = Model(lambda text, told: f"{'Tell me' if next(numbers) < 2 else 'Say'}: {text}")
    done, found = await run(
        tmp_path, model, chat(), settings=PARAPHRASE.model_copy(update={"copies": 4}), max_connections=1
    )
    assert [one.id for one in found] == ["openai:1~paraphrase-1", "openai:1~paraphrase-3"]
    assert (done.written, done.repeated) == (2, 2)
    assert len({body["seed"] for body in model.asked}) == 4


async def test_what_is_refused_is_counted_and_not_written(tmp_path: Path) -> None:
    def say(text: str, told: str) -> str:
        return {"same": text, "none": " ", "more": text * 9}.get(text.split()[0], reworded(text, told))

    rows = [row(user(f"{word} question"), answer("Yes."), id=word) for word in ("same", "none", "more", "fine")]
    done, found = await run(tmp_path, Model(say), *rows)
    assert [one.id for one in found] == ["fine~paraphrase-1"]
    assert done.refused == {Refused.IDENTICAL: 1, Refused.EMPTY: 1, Refused.LENGTH: 1}


async def test_an_answer_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    done, found = await run(tmp_path, Model(finish="length"), chat())
    assert (found, done.refused) == ([], {Refused.CUT_OFF: 1})


async def test_only_what_is_trained_on_is_augmented_and_never_a_copy(tmp_path: Path) -> None:
    half = SplitSettings(train=1, validation=1)
    copy = chat("openai:9~x", provenance={"augmented": {"kind": "paraphrase", "model": "m", "of": "openai:9"}})
    rows = [*many(20), copy, row(user("```\n1\n```"), answer("?"), id="no words")]
    settings = PARAPHRASE.model_copy(update={"split": half})
    done, found = await run(tmp_path, Model(), *rows, settings=settings)
    trained = [one.id for one in rows[:20] if placed(one, half) == "train"]
    assert [one.id.partition("~")[0] for one in found] == trained
    assert 0 < len(trained) < 20
    assert (done.read, done.skipped) == (22, 22 - len(trained))
    assert all(placed(one, half) == "train" for one in found)


async def test_of_a_split_folder_it_is_all_of_the_training_part(tmp_path: Path) -> None:
    rows = many(6)
    write(tmp_path / "in/data/train.jsonl", *rows[:3])
    write(tmp_path / "in/data/test.jsonl", *rows[3:])
    settings = PARAPHRASE.model_copy(update={"split": SplitSettings(train=0.001, validation=1)})
    async with served(Model()) as server:
        await asyncio.to_thread(augment, [tmp_path / "in"], tmp_path / "out.jsonl", settings, server)
    assert [one.id for one in read(tmp_path / "out.jsonl")] == [f"openai:{n}~paraphrase-1" for n in range(3)]


async def test_rows_come_in_the_order_of_the_input_with_many_requests_at_once(tmp_path: Path) -> None:
    model = Model()
    _, found = await run(tmp_path, model, *many(30), max_connections=6)
    assert [one.id for one in found] == [f"openai:{n}~paraphrase-1" for n in range(30)]
    assert 3 <= model.most <= 6


async def test_the_budget_of_rows_and_of_tokens_ends_it_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    model = Model()
    few = PARAPHRASE.model_copy(update={"budget_rows": 3})
    done, found = await run(tmp_path, model, *many(10), settings=few)
    assert (len(found), done.left, len(model.asked)) == (3, 7, 3)
    tokens = PARAPHRASE.model_copy(update={"budget_tokens": 5 * USED})
    done, found = await run(tmp_path, model, *many(10), settings=tokens, max_connections=1)
    assert (len(found), done.left, done.tokens) == (5, 5, 5 * USED)
    done, found = await run(tmp_path, model, *many(10))
    assert (len(found), done.left, len(model.asked)) == (10, 0, 10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "rows.jsonl"]


async def test_a_busy_server_is_waited_for_as_it_says(tmp_path: Path) -> None:
    model = Model(bad=[error(429, retry_after="1"), error(503, retry_after="0")])
    begun = asyncio.get_running_loop().time()
    done, found = await run(tmp_path, model, chat())
    assert (len(found), done.failed, len(model.asked)) == (1, 0, 3)
    assert asyncio.get_running_loop().time() - begun > 1


async def test_a_request_that_the_server_refuses_costs_one_row(tmp_path: Path) -> None:
    done, found = await run(tmp_path, Model(bad=[error(400)]), *many(3), max_connections=1)
    assert ([one.id for one in found], done.refused) == (
        ["openai:1~paraphrase-1", "openai:2~paraphrase-1"],
        {Refused.REQUEST: 1},
    )


async def test_a_failure_costs_one_row_until_the_next_run(tmp_path: Path) -> None:
    model = Model(bad=[error(500)] * 3)
    done, found = await run(tmp_path, model, *many(3), max_connections=1)
    assert (done.failed, len(found)) == (1, 2)
    done, found = await run(tmp_path, model, *many(3))
    assert (done.failed, len(found)) == (0, 3)
    assert len(model.asked) == 3 + 3


async def test_a_server_that_is_gone_stops_it_and_what_is_done_is_not_asked_for_again(tmp_path: Path) -> None:
    model = Model()
    answers = iter(range(1000))

    def say(text: str, told: str) -> str:
        if next(answers) == 4:
            model.bad = [error(500)] * 1000
        return reworded(text, told)

    model.say = say
    with pytest.raises(AugmentStopped, match="What is done is kept"):
        await run(tmp_path, model, *many(40), max_connections=1)
    assert not (tmp_path / "out.jsonl").exists()
    model.bad, before = [], len(model.asked)
    _, found = await run(tmp_path, model, *many(40))
    assert len(found) == 40
    assert len(model.asked) - before == 35


async def test_a_key_that_is_not_accepted_stops_it_at_once(tmp_path: Path) -> None:
    model = Model(bad=[error(401)] * 1000)
    with pytest.raises(AugmentStopped, match="key"):
        await run(tmp_path, model, *many(20), max_connections=1)
    assert len(model.asked) == 1


async def test_a_journal_whose_last_line_was_cut_off_goes_on(tmp_path: Path) -> None:
    model = Model()
    await run(tmp_path, model, *many(4), settings=PARAPHRASE.model_copy(update={"budget_rows": 2}))
    journal = tmp_path / ".out.jsonl.journal"
    journal.write_bytes(journal.read_bytes()[:-20])
    _, found = await run(tmp_path, model, *many(4))
    assert (len(found), len(model.asked)) == (4, 5)


async def test_a_row_that_says_something_else_than_before_is_done_anew(tmp_path: Path) -> None:
    few = PARAPHRASE.model_copy(update={"budget_rows": 1})
    await run(tmp_path, Model(), *many(2), settings=few)
    changed = row(user("Another question?"), answer("Yes."), id="openai:0")
    _, found = await run(tmp_path, Model(), changed, *many(2)[1:])
    assert said(found[0]) == ["Please: Another question?", "Yes."]


async def test_a_journal_of_other_settings_is_refused(tmp_path: Path) -> None:
    few = PARAPHRASE.model_copy(update={"budget_rows": 1})
    await run(tmp_path, Model(), *many(4), settings=few)
    async with served(Model()) as server:
        with pytest.raises(JournalError, match="other settings"):
            await asyncio.to_thread(augment, [tmp_path / "rows.jsonl"], tmp_path / "out.jsonl", GERMAN, server)


async def test_the_journal_is_for_its_owner_only(tmp_path: Path) -> None:
    await run(tmp_path, Model(), *many(4), settings=PARAPHRASE.model_copy(update={"budget_rows": 1}))
    assert (tmp_path / ".out.jsonl.journal").stat().st_mode & 0o077 == 0


async def test_a_line_that_is_no_row_is_told_by_number(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(chat().to_json() + b"{}\n")
    async with served(Model()) as server:
        with pytest.raises(InputError, match=r"rows\.jsonl: line 2: id: this field is required"):
            await asyncio.to_thread(augment, [path], tmp_path / "out.jsonl", PARAPHRASE, server)
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("out", ["rows.jsonl", "link.jsonl", "in/more.jsonl", "in/data/train.jsonl"])
async def test_an_input_is_never_written_over(tmp_path: Path, out: str) -> None:
    inputs = [write(tmp_path / "rows.jsonl", chat()), tmp_path / "in"]
    write(tmp_path / "in/data/train.jsonl", chat("openai:2"))
    (tmp_path / "link.jsonl").symlink_to("rows.jsonl")
    before = sorted(tmp_path.rglob("*"))
    # As an earlier run would have left it.
    journal = write((tmp_path / out).with_name(f".{Path(out).name}.journal"))
    model = Model()
    async with served(model) as server:
        with pytest.raises(InputError, match="input"):
            await asyncio.to_thread(augment, inputs, tmp_path / out, PARAPHRASE, server)
    journal.unlink()
    assert sorted(tmp_path.rglob("*")) == before
    assert (read(inputs[0]), read(inputs[1] / "data/train.jsonl")) == ([chat()], [chat("openai:2")])
    assert model.asked == []


async def test_a_file_that_no_run_has_begun_is_not_written_over(tmp_path: Path) -> None:
    model = Model()
    write(tmp_path / "out.jsonl", chat("precious"))
    with pytest.raises(InputError, match=r"out\.jsonl is there already"):
        await run(tmp_path, model, chat())
    assert [one.id for one in read(tmp_path / "out.jsonl")] == ["precious"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "rows.jsonl"]
    assert model.asked == []


Command = Callable[..., Awaitable[int]]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    write(tmp_path / "rows.jsonl", *many(3))

    async def run_command(*arguments: str) -> int:
        return await asyncio.to_thread(
            main,
            [str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "out.jsonl"), "--split", "train=1", *arguments],
        )

    return run_command


async def test_the_command_writes_rows_and_reports(
    tmp_path: Path, command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WRITER_KEY", "sk-secret")
    model = Model()
    async with listening(model) as address:
        options = ["--model", "m", "--base-url", f"http://{address}/v1", "--key-env", "WRITER_KEY", "--json"]
        assert await command("--kind", "paraphrase", "--budget-rows", "2", *options) == 3
        assert await command("--kind", "paraphrase", *options) == 0
    printed = capsys.readouterr()
    assert "read 3, written 2, 18 tokens used\nleft by the budget: 1\n" in printed.err
    assert json.loads(printed.out[printed.out.rindex("\n{") :])["written"] == 3
    assert set(model.keys) == {"Bearer sk-secret"}
    assert "sk-secret" not in printed.err + printed.out
    assert len(read(tmp_path / "out.jsonl")) == 3


async def test_the_command_says_in_one_line_that_nobody_answers(
    tmp_path: Path, command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.dataset.augment.command._RETRIES", {"count": 0})
    monkeypatch.setattr("train.dataset.augment.run._MOST_FAILURES", 2)
    assert await command("--kind", "paraphrase", "--model", "m", "--base-url", "http://127.0.0.1:9/v1") == 1
    told = capsys.readouterr().err.splitlines()
    assert told[-1].startswith("error: The server behind") and told[-1].endswith("the same command goes on.")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--kind", "paraphrase"], "--model"),
        (["--kind", "translation", "--model", "m"], "languages"),
        (["--kind", "translation", "--model", "m", "--language", "German"], "de=German"),
        (["--kind", "translation", "--model", "m", "--language", "DE=German"], "languages"),
        (["--kind", "paraphrase", "--model", "m", "--copies", "0"], "copies"),
        (["--kind", "paraphrase", "--model", "m", "--base-url", "localhost"], "base_url"),
        (["--kind", "paraphrase", "--model", "m", "--budget-rows", "0"], "budget_rows"),
    ],
)
async def test_wrong_usage_is_one_line_that_names_it_and_the_code_is_2(
    command: Command, arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        await command(*arguments)
    assert left.value.code == 2
    assert word in capsys.readouterr().err.splitlines()[-1]
