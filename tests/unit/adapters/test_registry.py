"""The registry: what is published is whole, what is bad is named, and nothing leads out of its folder."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from threading import Thread

import pytest

from serve.adapters.errors import (
    AdapterMissing,
    BadConfig,
    BadManifest,
    BadName,
    NameTaken,
    StorageFailed,
    WrongFiles,
)
from serve.adapters.files import CONFIG, MANIFEST, WEIGHTS
from serve.adapters.manifest import Base
from serve.adapters.registry import Registry
from tests.peft import save, tensors

BASE = Base(model="m", weights_sha256=["a" * 64])


def adapter(folder: Path, seed: int = 0) -> Path:
    """A small PEFT folder."""
    return save(folder, tensors({"model.layers.0.self_attn.q_proj": (8, 8)}, seed=seed))


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return adapter(tmp_path / "source")


def test_a_registry_that_is_not_there_is_empty(registry: Registry) -> None:
    assert registry.list() == [] and registry.list("m") == []


def test_a_published_adapter_is_listed_with_what_is_known_of_it(registry: Registry, source: Path) -> None:
    made = registry.publish(BASE, "a", source, training_data="sha256:1", evaluation={"loss": 1.5})
    [found] = registry.list()
    assert found.manifest == made == registry.verify("m", "a")
    assert (made.rank, made.alpha, made.base, made.evaluation) == (4, 8.0, BASE, {"loss": 1.5})
    assert (registry.folder(made) / WEIGHTS).read_bytes() == (source / WEIGHTS).read_bytes()


def test_a_name_can_be_taken_only_where_it_is_free_or_has_the_same_content(
    registry: Registry, source: Path, tmp_path: Path
) -> None:
    made = registry.publish(BASE, "a", source, replace=False)
    assert registry.publish(BASE, "a", source, replace=False, evaluation={"loss": 1.5}).version == made.version
    with pytest.raises(NameTaken, match="m:a is published with another content"):
        registry.publish(BASE, "a", adapter(tmp_path / "other", 1), replace=False)
    assert registry.verify("m", "a").version == made.version


def test_a_new_content_takes_the_place_of_the_old_and_the_old_stays_for_who_reads_it(
    registry: Registry, source: Path, tmp_path: Path
) -> None:
    versions = [registry.publish(BASE, "a", source)]
    versions += [registry.publish(BASE, "a", adapter(tmp_path / str(seed), seed)) for seed in (1, 2)]
    assert registry.manifest("m", "a") == versions[2]
    assert [registry.folder(one).exists() for one in versions] == [False, True, True]


def test_the_same_content_has_the_same_version(registry: Registry, source: Path) -> None:
    assert registry.publish(BASE, "a", source).version == registry.publish(BASE, "b", source).version


def test_a_withdrawn_adapter_is_gone_with_its_files(registry: Registry, source: Path) -> None:
    registry.publish(BASE, "a", source)
    registry.publish(BASE, "b", source)
    registry.withdraw("m", "a")
    assert [one.name for one in registry.list()] == ["b"]
    assert not (registry.root / "m" / "a").exists()
    with pytest.raises(AdapterMissing, match="'a'"):
        registry.withdraw("m", "a")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\\b", "a:b", ".hidden", "ä", "a\n", "a" * 65, "a\0"]
)
def test_a_name_that_could_lead_elsewhere_is_refused(registry: Registry, source: Path, name: str) -> None:
    with pytest.raises(BadName):
        registry.publish(BASE, name, source)
    with pytest.raises(BadName):
        registry.withdraw("m", name)
    with pytest.raises(BadName):
        registry.list(name + "/..")


def test_garbage_is_not_published(registry: Registry, source: Path) -> None:
    (source / CONFIG).write_text("{}", encoding="utf-8")
    with pytest.raises(BadConfig):
        registry.publish(BASE, "a", source)
    assert registry.list() == []


def test_a_folder_without_weights_is_not_published(registry: Registry, source: Path) -> None:
    (source / WEIGHTS).unlink()
    with pytest.raises(WrongFiles, match="safetensors is missing"):
        registry.publish(BASE, "a", source)


def test_links_pipes_and_folders_in_place_of_files_are_refused(registry: Registry, source: Path) -> None:
    (source / WEIGHTS).unlink()
    (source / WEIGHTS).symlink_to("/etc/passwd")
    with pytest.raises(WrongFiles, match="symbolic link"):
        registry.publish(BASE, "a", source)
    (source / WEIGHTS).unlink()
    os.mkfifo(source / WEIGHTS)
    with pytest.raises(WrongFiles, match="no plain file"):
        registry.publish(BASE, "a", source)
    (source / WEIGHTS).unlink()
    (source / WEIGHTS).mkdir()
    with pytest.raises(WrongFiles, match="no plain file"):
        registry.publish(BASE, "a", source)


def test_a_config_of_many_megabytes_is_refused(registry: Registry, source: Path) -> None:
    (source / CONFIG).write_bytes(b'{"a": "' + b"x" * 2_000_000 + b'"}')
    with pytest.raises(WrongFiles, match="the most allowed"):
        registry.publish(BASE, "a", source)


def test_a_folder_without_a_manifest_is_not_published_yet(registry: Registry, source: Path) -> None:
    shutil.copytree(source, registry.root / "m" / "half" / "0123456789abcdef")
    assert registry.list() == []
    with pytest.raises(AdapterMissing):
        registry.verify("m", "half")


def test_a_file_that_was_changed_is_found_out(registry: Registry, source: Path) -> None:
    made = registry.publish(BASE, "a", source)
    weights = registry.folder(made) / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    with pytest.raises(WrongFiles, match="SHA-256 differs"):
        registry.verify("m", "a")
    weights.write_bytes(b"")
    with pytest.raises(WrongFiles, match="0 bytes"):
        registry.verify("m", "a")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": 2}, "format"),
        ({"name": "b"}, "that of 'm:b'"),
        ({"version": "0" * 16}, "version"),
        ({"version": "../../../../etc"}, "version"),
        ({"files": {"../../x": {"bytes": 1, "sha256": "0" * 64}}}, "files"),
        ({"created": "yesterday"}, "created"),
        ({"surprise": 1}, "unknown key"),
    ],
)
def test_a_bad_manifest_is_named_and_the_others_are_listed(
    registry: Registry, source: Path, changes: dict[str, object], reason: str
) -> None:
    registry.publish(BASE, "a", source)
    good = registry.publish(BASE, "good", source)
    path = registry.root / "m" / "a" / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}), encoding="utf-8")
    with pytest.raises(BadManifest, match=reason):
        registry.manifest("m", "a")
    bad, other = registry.list("m")
    assert bad.manifest is None and reason.split("'")[0] in bad.fault
    assert other.manifest == good


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_manifest_that_is_no_json_object_is_refused(registry: Registry, source: Path, content: bytes) -> None:
    registry.publish(BASE, "a", source)
    (registry.root / "m" / "a" / MANIFEST).write_bytes(content)
    with pytest.raises(BadManifest):
        registry.manifest("m", "a")


def test_a_damaged_version_is_made_whole_by_publishing_it_again(registry: Registry, source: Path) -> None:
    made = registry.publish(BASE, "a", source)
    (registry.folder(made) / WEIGHTS).write_bytes(b"")
    registry.publish(BASE, "a", source)
    assert registry.verify("m", "a").version == made.version


def test_many_publishers_at_once_leave_one_whole_adapter(registry: Registry, tmp_path: Path) -> None:
    sources = [adapter(tmp_path / str(seed), seed) for seed in range(6)]
    threads = [Thread(target=registry.publish, args=(BASE, "a", source)) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert registry.verify("m", "a").name == "a"


def test_a_registry_that_cannot_be_written_says_so(tmp_path: Path, source: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StorageFailed, match="cannot be written"):
        Registry(tmp_path / "file").publish(BASE, "a", source)
