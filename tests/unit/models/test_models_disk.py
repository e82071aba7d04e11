"""What lies on disk: trusted when its manifest fits, hashed when not, never believed when wrong."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

from serve.models import ModelSourceError, fetch, list_local, local_path, remove, verify
from tests.unit.models.files import CONTENT, OTHER, manifest_of, names_in, sha256_of, weights_of
from tests.unit.models.web import Site, serving


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files hashed from disk, in order."""
    names: list[str] = []
    real = hashlib.file_digest

    def counting(file: Any, digest: str) -> Any:
        names.append(Path(file.name).name)
        return real(file, digest)

    monkeypatch.setattr(hashlib, "file_digest", counting)
    return names


@pytest.fixture
def fetched(root: Path, site: Site) -> Path:
    """The file, fetched once; what the server was asked until then is forgotten."""
    path = local_path("tiny", weights_of({"url": site.url}), root=root)
    site.asked.clear()
    return path


def test_a_second_start_neither_asks_nor_hashes(root: Path, site: Site, fetched: Path, hashed: list[str]) -> None:
    assert local_path("tiny", weights_of({"url": site.url}), root=root) == fetched
    assert (site.asked, hashed) == ([], [])


def test_a_second_start_needs_no_write_access(root: Path, site: Site, fetched: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in fetched.parent.iterdir()}
    local_path("tiny", weights_of({"url": site.url}), root=root)
    assert {path: path.stat().st_mtime_ns for path in fetched.parent.iterdir()} == before


@pytest.mark.parametrize(
    "manifest",
    ["", "{}", "[]", "not json", "\x00\xff", '{"path": "model.gguf"}', '{"path": 3, "files": "x"}'],
    ids=["empty", "no keys", "list", "text", "binary", "one key", "wrong types"],
)
def test_a_manifest_that_makes_no_sense_has_the_file_hashed_again(
    root: Path, site: Site, fetched: Path, hashed: list[str], manifest: str
) -> None:
    (root / "tiny" / "model.gguf.json").write_text(manifest)
    assert local_path("tiny", weights_of({"url": site.url}), root=root) == fetched
    assert (site.asked, hashed) == ([], ["model.gguf"])
    assert manifest_of(root / "tiny")["source"] == "found on disk"


@pytest.mark.parametrize(
    ("key", "value"), [("digest", "sha256:" + "0" * 64), ("size", 5), ("mtime_ns", 1), ("file", "other.gguf")]
)
def test_a_manifest_that_does_not_fit_has_the_file_hashed_again(
    root: Path, site: Site, fetched: Path, hashed: list[str], key: str, value: object
) -> None:
    manifest = root / "tiny" / "model.gguf.json"
    raw = manifest_of(root / "tiny")
    raw["files"][0][key] = value
    manifest.write_text(json.dumps(raw))
    assert local_path("tiny", weights_of({"url": site.url}), root=root) == fetched
    assert (site.asked, hashed) == ([], ["model.gguf"])


@pytest.mark.parametrize("path", ["/etc/hostname", "../../outside", "other.gguf"])
def test_a_manifest_cannot_point_at_a_file_that_the_settings_do_not_name(
    root: Path, site: Site, fetched: Path, path: str
) -> None:
    manifest = root / "tiny" / "model.gguf.json"
    manifest.write_text(json.dumps(manifest_of(root / "tiny") | {"path": path}))
    assert local_path("tiny", weights_of({"url": site.url}), root=root) == fetched


@pytest.mark.parametrize("content", [OTHER, CONTENT[:-1], CONTENT + b"x", b""])
def test_a_file_that_changed_is_fetched_again(root: Path, site: Site, fetched: Path, content: bytes) -> None:
    fetched.write_bytes(content)
    assert local_path("tiny", weights_of({"url": site.url}), root=root).read_bytes() == CONTENT
    assert len(site.asked) == 1


def test_a_file_put_there_by_hand_is_checked_and_taken(root: Path, site: Site) -> None:
    (root / "tiny").mkdir(parents=True)
    (root / "tiny" / "model.gguf").write_bytes(CONTENT)
    local_path("tiny", weights_of({"url": site.url}), root=root)
    assert site.asked == []
    assert manifest_of(root / "tiny")["files"][0]["digest"] == f"sha256:{sha256_of(CONTENT)}"


def test_settings_that_ask_for_another_file_replace_the_old_one(root: Path, fetched: Path) -> None:
    with serving(Site(OTHER)) as newer:
        weights = weights_of({"url": newer.url}, content=OTHER)
        assert local_path("tiny", weights, root=root).read_bytes() == OTHER
    assert manifest_of(root / "tiny")["files"][0]["digest"] == f"sha256:{weights.sha256}"


def test_a_broken_link_in_the_files_place_is_replaced(root: Path, site: Site) -> None:
    (root / "tiny").mkdir(parents=True)
    (root / "tiny" / "model.gguf").symlink_to("/no/such/file")
    path = local_path("tiny", weights_of({"url": site.url}), root=root)
    assert path.read_bytes() == CONTENT and not path.is_symlink()


def test_a_full_disk_is_told_before_anything_is_downloaded(
    root: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 60 * 1024 * 1024
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(free, 0, free))
    with pytest.raises(ModelSourceError, match=r"not enough disk space: 68\.1 MB needed in .*tiny, 62\.9 MB free"):
        local_path("tiny", weights_of({"url": site.url}), root=root)
    assert site.asked == []


def test_what_is_here_already_is_not_counted_as_needed(
    root: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 64 * 1024 * 1024 + 600_000
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(free, 0, free))
    (root / "tiny").mkdir(parents=True)
    (root / "tiny" / "model.gguf.part").write_bytes(CONTENT[:400_000])
    assert local_path("tiny", weights_of({"url": site.url}), root=root).read_bytes() == CONTENT


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, site: Site) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelSourceError, match=r"cannot keep files in .*/file/tiny: Not a directory"):
        local_path("tiny", weights_of({"url": site.url}), root=tmp_path / "file")


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc"])
def test_a_model_cannot_be_named_out_of_its_folder(root: Path, name: str) -> None:
    for act in (lambda: local_path(name, weights_of({"path": "x"}), root=root), lambda: remove(name, root=root)):
        with pytest.raises(ModelSourceError, match="cannot be the name"):
            act()


def test_a_path_is_used_where_it_lies(root: Path, tmp_path: Path, hashed: list[str]) -> None:
    own = tmp_path / "own.gguf"
    own.write_bytes(CONTENT)
    for _ in range(2):
        assert local_path("tiny", weights_of({"path": str(own)}), root=root) == own
    assert hashed == ["own.gguf"]
    assert names_in(root / "tiny") == {"model.gguf.json"}


def test_a_path_may_be_relative_or_begin_with_the_home_folder(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.gguf"
    own.write_bytes(CONTENT)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert local_path("one", weights_of({"path": "~/own.gguf"}), root=root) == own
    assert local_path("two", weights_of({"path": "own.gguf"}), root=root) == own


def test_a_path_with_the_wrong_file_is_told_and_left_alone(root: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.gguf"
    own.write_bytes(OTHER)
    with pytest.raises(ModelSourceError, match=r"own\.gguf: its SHA-256 is [0-9a-f]{64}, expected [0-9a-f]{64}"):
        local_path("tiny", weights_of({"path": str(own)}), root=root)
    assert own.read_bytes() == OTHER


@pytest.mark.parametrize("path", ["/no/such/file", "/tmp", "~no_such_user/file"])
def test_a_path_that_is_no_file_falls_through_to_the_next_source(root: Path, site: Site, path: str) -> None:
    weights = weights_of({"path": path}, {"url": site.url})
    assert fetch("tiny", weights, progress=False, root=root) == root / "tiny" / "model.gguf"


def test_a_path_that_changed_is_hashed_again(root: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.gguf"
    own.write_bytes(CONTENT)
    local_path("tiny", weights_of({"path": str(own)}), root=root)
    own.write_bytes(OTHER)
    with pytest.raises(ModelSourceError, match="SHA-256"):
        local_path("tiny", weights_of({"path": str(own)}), root=root)


def test_another_path_of_equal_size_and_time_is_hashed_for_itself(root: Path, tmp_path: Path) -> None:
    for name, content in (("right", CONTENT), ("wrong", OTHER)):
        (tmp_path / name).write_bytes(content)
        os.utime(tmp_path / name, ns=(1, 1))
    local_path("tiny", weights_of({"path": str(tmp_path / "right")}), root=root)
    with pytest.raises(ModelSourceError, match="SHA-256"):
        local_path("tiny", weights_of({"path": str(tmp_path / "wrong")}), root=root)


def test_verify_finds_a_change_that_size_and_time_do_not_show(root: Path, site: Site, fetched: Path) -> None:
    seen = fetched.stat()
    fetched.write_bytes(OTHER)
    os.utime(fetched, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    weights = weights_of({"url": site.url})
    with pytest.raises(ModelSourceError, match="is not right: its SHA-256"):
        verify("tiny", weights, root=root)
    assert local_path("tiny", weights, root=root).read_bytes() == CONTENT


def test_verify_gives_a_right_file_its_manifest_and_keeps_its_source(
    root: Path, site: Site, fetched: Path, hashed: list[str]
) -> None:
    assert verify("tiny", weights_of({"url": site.url}), root=root) == fetched
    assert hashed == ["model.gguf"]
    assert manifest_of(root / "tiny")["source"] == site.url


def test_verify_of_a_file_that_is_not_here_leaves_no_folder(root: Path, site: Site) -> None:
    with pytest.raises(ModelSourceError, match="tiny: there is no file yet; fetch it first"):
        verify("tiny", weights_of({"url": site.url}), root=root)
    assert not root.exists()


def test_remove_frees_the_files_and_leaves_what_is_not_ours(root: Path, site: Site, fetched: Path) -> None:
    (root / "tiny" / "notes.txt").write_text("mine")
    assert remove("tiny", root=root) == len(CONTENT)
    assert names_in(root / "tiny") == {"notes.txt"}
    assert list_local(root=root) == []
    assert local_path("tiny", weights_of({"url": site.url}), root=root).read_bytes() == CONTENT


def test_remove_leaves_a_users_own_file(root: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.gguf"
    own.write_bytes(CONTENT)
    local_path("tiny", weights_of({"path": str(own)}), root=root)
    assert remove("tiny", root=root) == 0
    assert own.read_bytes() == CONTENT
    assert list_local(root=root) == []


def test_remove_takes_a_partial_download_too(root: Path, site: Site) -> None:
    site.cuts = [500_000, 0, 0]
    with pytest.raises(ModelSourceError):
        local_path("tiny", weights_of({"url": site.url}), root=root)
    assert list_local(root=root)[0].state == "partial"
    assert 400_000 < remove("tiny", root=root) <= 500_000
    assert names_in(root / "tiny") == set()


def test_remove_of_what_is_not_here_frees_nothing(root: Path) -> None:
    assert remove("tiny", root=root) == 0


def test_local_files_are_listed_with_their_state(root: Path, site: Site, fetched: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.gguf"
    own.write_bytes(CONTENT)
    local_path("gone", weights_of({"path": str(own)}), root=root)
    own.unlink()
    local_path("touched", weights_of({"url": site.url}), root=root).touch()
    assert [(file.model_id, file.state, file.size) for file in list_local(root=root)] == [
        ("gone", "missing", 0),
        ("tiny", "ready", len(CONTENT)),
        ("touched", "unchecked", len(CONTENT)),
    ]


def test_an_error_crosses_process_borders() -> None:
    error = pickle.loads(pickle.dumps(ModelSourceError("tiny: no source gave the file")))
    assert isinstance(error, ModelSourceError) and str(error) == "tiny: no source gave the file"
