"""The loop learns only where something is new, keeps its place, and begins nothing twice."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve.store import Conversation, Feedback, Store
from tests.unit.train.dataset.curate.samples import write_recipe
from train.dataset.rows import Row
from train.finetune import command as finetune
from train.loop import command, steps
from train.loop.settings import load_settings
from train.loop.state import STEPS, Round, State, read_state, write_state
from train.loop.steps import ACTIONS, ROWS, LoopFailed, curate, tune
from train.run_folder import RunFolder

ROOT = Path(__file__).parents[4]


class Loop:
    """A store and a loop whose training never begins: what it is told of each step stands in for the step."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys
        self.done: list[str] = []
        self.failing: dict[str, Exception] = {}
        self.settings: dict[str, Any] = {}

    def step(self, name: str) -> Any:
        def carry_out(work: Any) -> dict[str, Any]:
            if name in self.failing:
                raise self.failing[name]
            self.done.append(name)
            return {"passed": True}

        return carry_out

    async def answer(
        self, *questions: str, model: str = "m", rating: str | None = "up", tenant: str = "local"
    ) -> None:
        async with Store(f"sqlite:///{self.folder / 'groupqwen.db'}") as store:
            for question in questions:
                id = f"chatcmpl-{model}-{question}".replace(" ", "-")
                now = datetime.now(UTC)
                choice = {"index": 0, "message": {"role": "assistant", "content": f"It is {question}."}}
                asked = {"messages": [{"role": "user", "content": question}]}
                await store.conversations.add(Conversation(id, tenant, now, model, asked, [choice]))
                if rating is not None:
                    await store.feedback.add(Feedback(f"fb-{id}", id, tenant, now, rating=rating))  # type: ignore[arg-type]

    def run(self, *options: str, **collect: Any) -> tuple[int, str, str]:
        config = {
            "model": "m",
            "folder": "loop",
            "curate": "c.yaml",
            "recipe": "r",
            "evaluation": "e",
            "collect": {"tenant": "local", "min_new": 2, **collect},
            **self.settings,
        }
        (self.folder / "loop.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        code = command.main(["--config", str(self.folder / "loop.yaml"), *options])
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def rounds(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "loop").glob("loop-*"))

    def rows(self, number: int) -> list[str]:
        [name] = [name for name in self.rounds() if name.startswith(f"loop-{number:04}-")]
        lines = (self.folder / "loop" / name / ROWS).read_bytes().splitlines()
        return [Row.from_json(line).messages[0].content or "" for line in lines]


class Training:
    """Ends with each of ``codes`` and then well.

    Attributes:
        spared: of each start, whether it was told to spare serving.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.codes: list[int] = []
        self.spared: list[bool] = []

    def __call__(self, arguments: list[str]) -> int:
        self.spared.append("--spare-serving" in arguments)
        if self.codes:
            return self.codes.pop(0)
        run = RunFolder(*(arguments[arguments.index(name) + 1] for name in ("--storage", "--run")))
        run.make()
        run.write_json("result.json", {"state": "succeeded"})
        return 0


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Loop:
    monkeypatch.setenv("GROUPQWEN_HOME", str(tmp_path))
    monkeypatch.delenv("GROUPQWEN_DATABASE_URL", raising=False)
    found = Loop(tmp_path, capsys)
    for name in STEPS[1:]:
        monkeypatch.setitem(ACTIONS, name, found.step(name))
    return found


def test_without_feedback_there_is_nothing_to_learn_and_that_is_no_failure(loop: Loop) -> None:
    asyncio.run(loop.answer("a", "b", "c", rating=None))
    code, out, error = loop.run()
    assert (code, error) == (0, "")
    assert "nothing to learn from: 0 new answers with feedback" in out
    assert loop.done == [] and loop.rounds() == []


def test_liked_answers_of_the_model_and_of_its_adapters_are_learned_and_no_others(loop: Loop) -> None:
    asyncio.run(loop.answer("own"))
    asyncio.run(loop.answer("adapted", model="m:loop-0001"))
    asyncio.run(loop.answer("disliked", rating="down"))
    asyncio.run(loop.answer("of another", model="m2"))
    assert loop.run()[0] == 0
    assert sorted(loop.rows(1)) == ["adapted", "own"]
    assert loop.done == list(STEPS[1:])


def test_only_what_is_new_starts_a_round_and_all_of_it_is_learned(loop: Loop) -> None:
    asyncio.run(loop.answer("a", "b"))
    assert loop.run()[0] == 0
    loop.done.clear()
    asyncio.run(loop.answer("c"))
    code, out, _ = loop.run()
    assert code == 0 and "1 new answers" in out and loop.done == []
    asyncio.run(loop.answer("d"))
    assert loop.run()[0] == 0
    assert sorted(loop.rows(2)) == ["a", "b", "c", "d"]


def test_feedback_on_an_old_answer_is_new(loop: Loop) -> None:
    asyncio.run(loop.answer("a", "b", rating=None))
    assert "nothing to learn" in loop.run()[1]

    async def like() -> None:
        async with Store(f"sqlite:///{loop.folder / 'groupqwen.db'}") as store:
            for name in "ab":
                id = f"chatcmpl-m-{name}"
                await store.feedback.add(Feedback(f"fb-{name}", id, "local", datetime.now(UTC), rating="up"))

    asyncio.run(like())
    assert loop.run()[0] == 0 and len(loop.rows(1)) == 2


def test_a_round_that_failed_goes_on_with_the_step_that_it_was_at(loop: Loop) -> None:
    asyncio.run(loop.answer("a", "b"))
    loop.failing = {"publish": LoopFailed("publish failed")}
    code, _, error = loop.run()
    assert (code, error) == (1, "error: publish failed\n") and loop.done == ["curate", "tune"]
    state = read_state(loop.folder / "loop")
    assert state.current is not None and list(state.current.done) == ["collect", "curate", "tune"]
    loop.failing = {}
    asyncio.run(loop.answer("later"))
    assert loop.run()[0] == 0
    assert loop.done == list(STEPS[1:])
    assert sorted(loop.rows(1)) == ["a", "b"]


def test_a_training_that_somebody_paused_keeps_its_place_and_says_so(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(loop.answer("a", "b"))
    monkeypatch.setitem(ACTIONS, "curate", lambda work: {"train": "rows", "validation": None})
    monkeypatch.setitem(ACTIONS, "tune", tune)
    monkeypatch.setattr(finetune, "main", lambda arguments: 0)
    code, _, error = loop.run()
    assert code == 1 and "the training was paused" in error and "goes on with it" in error
    state = read_state(loop.folder / "loop")
    assert state.current is not None and list(state.current.done) == ["collect", "curate"]


@pytest.fixture
def training(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> Training:
    """Stands in for what ``python -m train.finetune`` does, in a loop that has come to it."""
    asyncio.run(loop.answer("a", "b"))
    monkeypatch.setitem(ACTIONS, "curate", lambda work: {"train": "rows", "validation": None})
    monkeypatch.setitem(ACTIONS, "tune", tune)
    found = Training(loop)
    monkeypatch.setattr(finetune, "main", found)
    monkeypatch.setattr(steps, "_SHORTEST_WAIT", 0.01)
    return found


@pytest.mark.parametrize("spare", [True, False])
def test_training_spares_serving_unless_the_loop_says_otherwise(loop: Loop, training: Training, spare: bool) -> None:
    if not spare:
        loop.settings["spare_serving"] = False
    assert loop.run()[0] == 0
    assert training.spared == [spare]


def test_training_waits_for_room_beside_serving_and_goes_on_when_there_is(loop: Loop, training: Training) -> None:
    training.codes = [69, 69]
    assert loop.run()[0] == 0
    assert training.spared == [True] * 3 and loop.done == ["publish", "evaluate", "decide"]


@pytest.mark.parametrize(
    ("code", "told"), [(69, "finds no room beside serving"), (75, "was hindered by what may pass")]
)
def test_what_hinders_training_too_long_ends_the_loop_with_its_own_code_and_the_next_one_goes_on(
    loop: Loop, training: Training, code: int, told: str
) -> None:
    loop.settings["room_wait"] = 0
    training.codes = [code]
    ended, _, error = loop.run()
    assert ended == code and told in error and "goes on with it" in error
    state = read_state(loop.folder / "loop")
    assert state.current is not None and "tune" not in state.current.done
    assert loop.run()[0] == 0
    assert loop.rounds() == [state.current.name]


@pytest.mark.parametrize("runs", [None, "elsewhere", "memory://{}"])
@pytest.mark.parametrize("begun", [False, True])
def test_what_training_has_not_begun_with_is_collected_anew(loop: Loop, begun: bool, runs: str | None) -> None:
    storage = str(loop.folder / (runs or "loop/runs"))
    if runs is not None:
        loop.settings["runs"] = runs = runs.format(loop.folder.name)
        storage = runs if "://" in runs else storage
    asyncio.run(loop.answer("a", "b"))
    loop.failing = {"tune": LoopFailed("tune failed")}
    assert loop.run()[0] == 1
    [name] = loop.rounds()
    run = RunFolder(storage, name)
    run.make()
    run.write("config.yaml", b"refused")
    if begun:
        run.write_json("data/manifest.json", {})
    loop.failing = {}
    asyncio.run(loop.answer("later"))
    assert loop.run()[0] == 0
    assert loop.rounds() == [name]
    assert sorted(loop.rows(1)) == (["a", "b"] if begun else ["a", "b", "later"])
    assert (run.read("config.yaml") is not None) == begun


def test_a_round_of_which_curation_leaves_nothing_is_given_up(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ACTIONS, "curate", curate)
    recipe = loop.folder / "c.yaml"
    write_recipe(recipe, {"step": "length", "chars_min": 9999})
    asyncio.run(loop.answer("a", "b"))
    code, out, _ = loop.run()
    assert code == 0 and "curation left nothing to train on" in out and loop.done == []
    assert loop.rounds() == [] and read_state(loop.folder / "loop") == State()
    write_recipe(recipe, {"step": "branch"}, split={"train": 1, "validation": 0, "test": 0})
    asyncio.run(loop.answer("c"))
    assert loop.run()[0] == 0
    assert len(loop.rows(1)) == 3 and loop.done == list(STEPS[2:])


def test_a_round_can_be_given_up(loop: Loop) -> None:
    asyncio.run(loop.answer("a", "b"))
    loop.failing = {"evaluate": LoopFailed("it cannot succeed")}
    assert loop.run()[0] == 1
    [name] = loop.rounds()
    code, out, _ = loop.run("--abandon")
    assert code == 0 and f"{name} is given up" in out and loop.rounds() == []
    assert "no round is under way" in loop.run("--abandon")[1]
    loop.failing = {}
    assert loop.run()[0] == 0
    assert loop.rounds() != [name]


def test_a_loop_that_begins_anew_takes_no_name_that_was_there(loop: Loop) -> None:
    asyncio.run(loop.answer("a", "b"))
    assert loop.run()[0] == 0
    (loop.folder / "loop" / "state.json").rename(loop.folder / "moved-away.json")
    assert loop.run()[0] == 0
    first, second = loop.rounds()
    assert first != second and loop.done == 2 * list(STEPS[1:])


def test_only_the_named_tenant_teaches_unless_everybody_does(loop: Loop) -> None:
    asyncio.run(loop.answer("a", "b"))
    asyncio.run(loop.answer("c", tenant="key-1"))
    assert loop.run("--abandon", tenant=None)[0] == 1
    assert loop.run()[0] == 0
    assert sorted(loop.rows(1)) == ["a", "b"]
    assert loop.run(tenant="everybody", min_new=1)[0] == 0
    assert sorted(loop.rows(2)) == ["a", "b", "c"]


def test_two_runs_of_one_loop_do_not_work_at_once(loop: Loop) -> None:
    from filelock import FileLock

    (loop.folder / "loop").mkdir()
    with FileLock(loop.folder / "loop" / ".lock"):
        code, _, error = loop.run()
    assert code == 1 and "another run of this loop works" in error


def test_a_file_that_is_no_state_is_said_and_kept(loop: Loop) -> None:
    (loop.folder / "loop").mkdir()
    (loop.folder / "loop" / "state.json").write_text("{", encoding="utf-8")
    code, _, error = loop.run()
    assert code == 1 and "is not the state of a loop" in error
    assert (loop.folder / "loop" / "state.json").read_text(encoding="utf-8") == "{"


def test_the_state_comes_back_as_it_was(tmp_path: Path) -> None:
    begun = datetime.now(UTC)
    current = Round(number=2, mark="0" * 8, begun=begun).with_step("tune", {"a": 1})
    state = State(finished=Round(number=1, mark="f" * 8, begun=begun), current=current)
    write_state(tmp_path, state)
    assert read_state(tmp_path) == state


def test_the_recipe_that_ships_names_recipes_that_are_there() -> None:
    found = load_settings(str(ROOT / "configs" / "train" / "loop.yaml"))
    assert all(Path(path).is_file() for path in (found.curate, found.recipe, found.evaluation))
