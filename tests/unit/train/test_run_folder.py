"""The folder of a run: the same on a disk and in an object store, and safe names only."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from train.run_folder import RunFolder, StorageError


@pytest.fixture(params=["disk", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunFolder]:
    found = RunFolder(str(tmp_path / "runs") if request.param == "disk" else f"memory://{tmp_path.name}", "one")
    found.make()
    yield found
    found.remove("")


def test_what_is_written_is_read(folder: RunFolder) -> None:
    assert folder.read("a/b.json") is None
    folder.write_json("a/b.json", {"naïve": "日本語"})
    folder.write_json("a/b.json", {"naïve": "日本語 😀"})
    assert folder.read_json("a/b.json") == {"naïve": "日本語 😀"}
    assert folder.names("a") == ["b.json"]
    assert folder.names("nothing") == []


def test_files_and_folders_are_copied_in_and_out(folder: RunFolder, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    (source / "x.bin").write_bytes(b"x" * 100_000)
    (source / "inner" / "y").write_bytes(b"y")
    folder.put(source, "copied")
    assert folder.names("copied") == ["inner", "x.bin"]
    folder.get("copied/inner/y", tmp_path / "back" / "y")
    assert (tmp_path / "back" / "y").read_bytes() == b"y"
    with pytest.raises(StorageError, match="copied/z: is missing"):
        folder.get("copied/z", tmp_path / "z")


def test_removing_what_is_not_there_is_no_fault(folder: RunFolder) -> None:
    folder.remove("nothing")
    folder.write("gone/x", b"x")
    folder.remove("gone")
    assert folder.read("gone/x") is None


def test_json_that_is_no_object_is_refused(folder: RunFolder) -> None:
    for content in (b"[]", b"{", b""):
        folder.write("x.json", content)
        with pytest.raises(StorageError, match=r"x\.json: is not a JSON object"):
            folder.read_json("x.json")


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a b", "x" * 65, "naïve"])
def test_a_name_that_leads_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="run name"):
        RunFolder(str(tmp_path), name)


def test_a_storage_that_nobody_knows_is_refused() -> None:
    with pytest.raises(StorageError, match="nosuch"):
        RunFolder("nosuch://bucket", "one").read("x")


def test_a_run_is_found_by_its_address(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path), "one")
    assert RunFolder.of(folder.address) == folder
    assert RunFolder.of(f"{folder.address}/") == folder
    assert RunFolder.of("s3://bucket/runs/one") == RunFolder("s3://bucket/runs", "one")


def test_others_cannot_look_into_it(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path / "runs"), "one")
    folder.write("inner/x", b"x")
    for path in (tmp_path / "runs", tmp_path / "runs" / "one" / "inner"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_folder_of_the_run_is_on_this_machine_with_all_that_is_in_it(folder: RunFolder) -> None:
    for path in ("data/manifest.json", "data/data/train/0.parquet", "database/other"):
        folder.write(path, path.encode())
    with folder.on_disk("data") as here:
        found = {one.relative_to(here).as_posix(): one.read_text() for one in here.rglob("*") if one.is_file()}
    assert found == {
        "manifest.json": "data/manifest.json",
        "data/train/0.parquet": "data/data/train/0.parquet",
    }
