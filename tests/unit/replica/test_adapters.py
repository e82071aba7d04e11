"""A replica's adapters become what the registry and the config say, one by one, whatever some of them are."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import pytest_asyncio

from serve.adapters.files import MANIFEST, WEIGHTS
from serve.adapters.manifest import Base
from serve.errors import AdapterLoading, AdapterNotFound, AdapterRefused, Unavailable
from serve.replica import adapters as module
from serve.settings.model import ModelSettings, ModelUserConfig
from tests.unit.replica.adapters import Kept, Taking, kept, refusal


@pytest_asyncio.fixture
async def replica(tmp_path: Path) -> AsyncIterator[Kept]:
    async with kept(tmp_path) as found:
        yield found


def behaviour(**fields: Any) -> ModelUserConfig:
    return ModelUserConfig.model_validate(fields)


async def test_what_is_published_is_loaded_and_what_is_withdrawn_is_removed(replica: Kept) -> None:
    key = replica.publish("a")
    await replica.until(lambda: replica.states() == {"a": "ready"})
    assert list(replica.handler.has) == [key]
    replica.registry.withdraw("m", "a")
    await replica.until(lambda: not replica.handler.has)
    assert replica.states() == {}


async def test_adapters_of_other_models_are_not_loaded(replica: Kept) -> None:
    replica.publish("other", base=Base(model="n"))
    replica.publish("own")
    await replica.until(lambda: replica.states() == {"own": "ready"})


async def test_the_config_names_adapters_and_leaves_the_registry_out(replica: Kept) -> None:
    replica.publish("published")
    own = {"name": "own", "path": str(replica.source(1))}
    replica.adapters.configure(behaviour(adapters=[own]))
    await replica.until(lambda: replica.states() == {"own": "ready", "published": "ready"})
    replica.adapters.configure(behaviour(adapters=[own], adapter_registry=False))
    await replica.until(lambda: replica.states() == {"own": "ready"})


async def test_the_configs_adapter_takes_the_place_of_a_published_one_of_its_name(replica: Kept) -> None:
    replica.publish("a")
    replica.adapters.configure(behaviour(adapters=[{"name": "a", "path": str(replica.source(1))}]))
    await replica.until(lambda: replica.states() == {"a": "ready"})
    assert list(replica.handler.has.values()) == [(replica.source(1) / WEIGHTS).read_bytes()]


async def test_a_folder_of_the_config_that_changes_is_loaded_anew(replica: Kept) -> None:
    folder = replica.folder / "live"
    shutil.copytree(replica.source(1), folder)
    replica.adapters.configure(behaviour(adapters=[{"name": "a", "path": str(folder)}]))
    await replica.until(lambda: replica.states() == {"a": "ready"})
    shutil.copyfile(replica.source(2) / WEIGHTS, folder / WEIGHTS)
    expected = [(replica.source(2) / WEIGHTS).read_bytes()]
    await replica.until(lambda: list(replica.handler.has.values()) == expected)


async def test_what_the_handler_gets_is_a_copy_that_outlives_the_original(replica: Kept) -> None:
    replica.publish("a")
    await replica.until(lambda: replica.states() == {"a": "ready"})
    replica.registry.withdraw("m", "a")
    [copy] = (replica.folder / "copies").iterdir()
    assert (copy / WEIGHTS).read_bytes() == (replica.source() / WEIGHTS).read_bytes()


async def test_new_requests_run_on_the_new_content_and_old_ones_end_on_the_old(replica: Kept) -> None:
    first = replica.publish("a", 1)
    await replica.until(lambda: replica.states() == {"a": "ready"})
    async with replica.adapters.using("a") as old:
        second = replica.publish("a", 2)
        await replica.until(lambda: second in replica.handler.has)
        async with replica.adapters.using("a") as new:
            assert (old, new) == (first, second)
        assert first in replica.handler.has
    await replica.until(lambda: first not in replica.handler.has)
    assert replica.handler.history == [f"+{first}", f"+{second}", f"-{first}"]


async def test_a_withdrawn_adapter_ends_its_requests_and_takes_no_new_ones(replica: Kept) -> None:
    key = replica.publish("a")
    await replica.until(lambda: replica.states() == {"a": "ready"})
    async with replica.adapters.using("a"):
        replica.registry.withdraw("m", "a")
        await replica.until(lambda: replica.states() == {})
        with pytest.raises(AdapterNotFound):
            async with replica.adapters.using("a"):
                pass
        assert key in replica.handler.has
    await replica.until(lambda: not replica.handler.has)


async def test_a_content_that_comes_back_while_it_still_runs_is_not_loaded_twice(replica: Kept) -> None:
    first = replica.publish("a", 1)
    await replica.until(lambda: replica.states() == {"a": "ready"})
    async with replica.adapters.using("a"):
        second = replica.publish("a", 2)
        await replica.until(lambda: second in replica.handler.has)
        replica.publish("a", 1)
        await replica.until(lambda: second not in replica.handler.has)
    async with replica.adapters.using("a") as key:
        assert key == first
    assert replica.handler.history == [f"+{first}", f"+{second}", f"-{second}"]


async def test_one_bad_adapter_is_refused_with_its_reason_and_the_others_are_served(replica: Kept) -> None:
    replica.handler.failures["bad"] = refusal("rank 9 is too much")
    for name in ("a", "bad", "c"):
        replica.publish(name)
    await replica.until(lambda: replica.states() == {"a": "ready", "bad": "refused", "c": "ready"})
    with pytest.raises(AdapterRefused, match="'m:bad' was refused: rank 9 is too much"):
        async with replica.adapters.using("bad"):
            pass


async def test_a_handler_that_breaks_on_an_adapter_does_not_stop_the_others(
    replica: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.0)
    replica.handler.failures["bad"] = RuntimeError("a bug")
    replica.publish("bad")
    replica.publish("good")
    await replica.until(lambda: replica.states() == {"bad": "refused", "good": "ready"})
    assert "log says why" in replica.adapters.info()[0]["reason"]
    replica.handler.failures.clear()
    await replica.until(lambda: replica.states() == {"bad": "ready", "good": "ready"})


async def test_a_refused_adapter_is_tried_again_when_it_has_changed_and_not_before(replica: Kept) -> None:
    tries = 0

    async def add(name: str, folder: Path) -> None:
        nonlocal tries
        tries += 1
        raise refusal("no")

    replica.handler.add_adapter = add  # type: ignore[method-assign]
    replica.publish("a", 1)
    await replica.until(lambda: replica.states() == {"a": "refused"})
    for _ in range(20):
        replica.adapters.configure(behaviour())
        await asyncio.sleep(0.001)
    assert tries == 1
    replica.publish("a", 2)
    await replica.until(lambda: tries == 2)


async def test_an_adapter_of_other_weights_is_refused_until_its_manifest_names_the_right_ones(tmp_path: Path) -> None:
    handler = Taking()
    weights = {"file": "w", "bytes": 1, "sha256": "a" * 64, "sources": [{"path": "/w"}]}
    handler.settings = ModelSettings.model_validate({"id": "m", "handler": "echo", "weights": weights})
    async with kept(tmp_path, handler) as replica:
        replica.publish("a", base=Base(model="m", weights_sha256=["b" * 64]))
        await replica.until(lambda: replica.states() == {"a": "refused"})
        assert "other weights" in replica.adapters.info()[0]["reason"]
        replica.publish("a", base=Base(model="m", weights_sha256=["b" * 64, "a" * 64]))
        await replica.until(lambda: replica.states() == {"a": "ready"})


async def test_an_adapter_of_another_chat_template_is_refused(replica: Kept) -> None:
    replica.handler.template = "c" * 64
    replica.publish("other", base=Base(model="m", chat_template_sha256="d" * 64))
    replica.publish("same", base=Base(model="m", chat_template_sha256="c" * 64))
    replica.publish("unknown")
    await replica.until(lambda: replica.states() == {"other": "refused", "same": "ready", "unknown": "ready"})


@pytest.mark.parametrize("content", [b"", b"{", b"\xff" * 100, b"[" * 100_000])
async def test_a_broken_manifest_is_refused_and_the_others_are_served(replica: Kept, content: bytes) -> None:
    replica.publish("bad")
    replica.publish("good")
    (replica.registry.root / "m" / "bad" / MANIFEST).write_bytes(content)
    await replica.until(lambda: replica.states() == {"bad": "refused", "good": "ready"})


async def test_files_that_are_not_the_manifests_are_refused(replica: Kept) -> None:
    replica.publish("a")
    folder = replica.registry.folder(replica.registry.manifest("m", "a"))
    (folder / WEIGHTS).write_bytes(b"garbage")
    await replica.until(lambda: replica.states() == {"a": "refused"})
    assert replica.handler.history == []


async def test_a_bad_path_in_the_config_is_refused_and_the_others_are_served(replica: Kept) -> None:
    good = {"name": "good", "path": str(replica.source())}
    replica.adapters.configure(behaviour(adapters=[{"name": "bad", "path": "/does/not/exist"}, good]))
    await replica.until(lambda: replica.states() == {"bad": "refused", "good": "ready"})


async def test_an_unknown_adapter_is_told_with_those_that_there_are(replica: Kept) -> None:
    replica.publish("a")
    await replica.until(lambda: replica.states() == {"a": "ready"})
    with pytest.raises(AdapterNotFound, match=r"no adapter 'b'\. Its adapters: a"):
        async with replica.adapters.using("b"):
            pass


async def test_a_request_right_after_publishing_is_not_told_that_there_is_no_such_adapter(replica: Kept) -> None:
    await replica.until(lambda: replica.adapters._looked_at > 0)
    replica.handler.gate.clear()
    replica.publish("a")
    with pytest.raises(AdapterLoading):
        async with replica.adapters.using("a"):
            pass
    replica.handler.gate.set()
    await replica.until(lambda: replica.states() == {"a": "ready"})


async def test_a_slow_load_does_not_keep_others_from_being_known(replica: Kept) -> None:
    replica.handler.gate.clear()
    replica.publish("slow")
    await replica.until(lambda: replica.states() == {"slow": "loading"})
    replica.publish("next")
    with pytest.raises(AdapterLoading):
        async with replica.adapters.using("next"):
            pass
    replica.handler.gate.set()
    await replica.until(lambda: replica.states() == {"next": "ready", "slow": "ready"})


async def test_an_adapter_withdrawn_while_it_loads_is_removed_again(replica: Kept) -> None:
    replica.handler.gate.clear()
    replica.publish("a")
    await replica.until(lambda: replica.states() == {"a": "loading"})
    replica.registry.withdraw("m", "a")
    with pytest.raises(AdapterNotFound):
        async with replica.adapters.using("b"):
            pass
    replica.handler.gate.set()
    await replica.until(lambda: len(replica.handler.history) == 2)
    assert replica.handler.has == {} and replica.states() == {}


async def test_a_registry_that_cannot_be_read_keeps_what_is_served(
    replica: Kept, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    replica.publish("a")
    await replica.until(lambda: replica.states() == {"a": "ready"})
    root = replica.registry.root
    (root / "m").rename(root / "kept")
    (root / "m").symlink_to(root / "m")  # A folder that no call can enter.
    await replica.until(lambda: "cannot be read" in caplog.text)
    async with replica.adapters.using("a"):
        pass
    with pytest.raises(Unavailable, match="is not known"):
        async with replica.adapters.using("b"):
            pass
    (root / "m").unlink()
    (root / "kept").rename(root / "m")
    await replica.until(lambda: not replica.adapters._fault)
    assert replica.handler.history == [f"+{next(iter(replica.handler.has))}"]


async def test_a_model_that_comes_back_into_memory_gets_its_adapters_again(replica: Kept) -> None:
    key = replica.publish("a")
    await replica.until(lambda: replica.states() == {"a": "ready"})
    replica.handler.has.clear()
    replica.adapters.forget()
    await replica.until(lambda: replica.states() == {"a": "ready"} and key in replica.handler.has)


async def test_an_adapter_waits_while_its_model_is_not_in_memory(
    replica: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.0)
    replica.handler.failures["a"] = Unavailable("not in memory")
    replica.publish("a")
    await replica.until(lambda: "a" in replica.states())
    with pytest.raises(AdapterLoading):
        async with replica.adapters.using("a"):
            pass
    replica.handler.failures.clear()
    await replica.until(lambda: replica.states() == {"a": "ready"})


async def test_many_adapters_come_and_go_under_requests(replica: Kept) -> None:
    names = [f"a{number}" for number in range(12)]
    stop = asyncio.Event()

    async def ask(name: str) -> None:
        while not stop.is_set():
            try:
                async with replica.adapters.using(name) as key:
                    await asyncio.sleep(0.001)
                    assert key in replica.handler.has, "removed while a request ran on it"
            except (AdapterLoading, AdapterNotFound):
                await asyncio.sleep(0.001)

    def served() -> dict[str, str]:
        return {one["name"]: one["version"] for one in replica.adapters.info()}

    def published() -> dict[str, str]:
        return {name: replica.registry.manifest("m", name).version for name in names}

    asking = [asyncio.create_task(ask(name)) for name in names for _ in range(2)]
    for seed in (1, 2, 3):
        for name in names:
            await asyncio.to_thread(replica.publish, name, seed)
        await replica.until(lambda: served() == published())
    for name in names:
        replica.registry.withdraw("m", name)
    await replica.until(lambda: not replica.handler.has)
    stop.set()
    await asyncio.gather(*asking)


async def test_what_was_served_goes_on_while_a_new_content_cannot_be_read(
    replica: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.0)
    first = replica.publish("a", 1)
    await replica.until(lambda: replica.states() == {"a": "ready"})
    second = replica.registry.publish(Base(model="m"), "a", replica.source(2))
    weights = replica.registry.folder(second) / WEIGHTS
    weights.rename(weights.with_suffix(".away"))
    await replica.until(lambda: "missing" in replica.adapters.info()[0]["reason"])
    async with replica.adapters.using("a") as key:
        assert key == first
    weights.with_suffix(".away").rename(weights)
    await replica.until(lambda: list(replica.handler.has) == [f"a@{second.version}"])


async def test_storage_that_hangs_holds_up_nothing_else(replica: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    replica.publish("a")
    await replica.until(lambda: replica.states() == {"a": "ready"})
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.01)
    released = Event()
    monkeypatch.setattr(replica.registry, "list", lambda model: released.wait(20))
    await replica.until(lambda: "does not answer" in replica.adapters._fault)
    async with replica.adapters.using("a"):
        assert await asyncio.to_thread(lambda: "another thread is free")
    with pytest.raises(Unavailable):
        async with replica.adapters.using("b"):
            pass
    released.set()
