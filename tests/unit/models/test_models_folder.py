"""Folders of files: whole or not at all, each file checked, what is here never fetched again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from serve.models import ModelSourceError, checkpoint, fetch, list_local, local_path, remove, verify
from tests.unit.models.files import (
    CONTENT,
    FILES,
    OTHER,
    contents,
    folder_of,
    lay_out,
    manifest_of,
    names_in,
    weights_of,
)
from tests.unit.models.web import Page, Site, serving
from tests.unit.models.wheels import build_wheel, use_index


@pytest.fixture
def store() -> Iterator[Site]:
    """A server of the folder's files below ``/base``."""
    pages = {f"/base/{quote(name)}": Page(content) for name, content in FILES.items()}
    with serving(Site(pages=pages)) as running:
        yield running


@pytest.fixture
def base(store: Site) -> dict[str, str]:
    """The source of that folder."""
    return {"url": f"http://127.0.0.1:{store.port}/base/"}


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files hashed from disk, in order."""
    names: list[str] = []
    real = hashlib.file_digest

    def counting(file: Any, digest: Any) -> Any:
        names.append(Path(file.name).name)
        return real(file, digest)

    monkeypatch.setattr(hashlib, "file_digest", counting)
    return names


def test_a_folder_is_fetched_whole_with_one_manifest(root: Path, base: dict[str, str]) -> None:
    path = local_path("tiny", folder_of(base), root=root)
    assert path == root / "tiny" / "checkpoint"
    assert contents(path) == FILES
    assert names_in(root / "tiny") == {"checkpoint", "checkpoint.json"}
    manifest = manifest_of(root / "tiny", "checkpoint")
    assert manifest["source"] == base["url"]
    assert [file["file"] for file in manifest["files"]] == sorted(FILES)


def test_a_second_start_neither_asks_nor_hashes(
    root: Path, store: Site, base: dict[str, str], hashed: list[str]
) -> None:
    local_path("tiny", folder_of(base), root=root)
    store.asked.clear()
    local_path("tiny", folder_of(base), root=root)
    assert (store.asked, hashed) == ([], [])


def test_a_cut_file_is_resumed_and_whole_ones_are_not_fetched_again(
    root: Path, store: Site, base: dict[str, str]
) -> None:
    large = [name for name in FILES if name.endswith(".safetensors")]
    files = {name: FILES[name] for name in large}
    store.cuts = [600_000, 200_000, 0, 0]
    with pytest.raises(ModelSourceError, match=r"no source gave the folder \(.*00002\.safetensors: the connection"):
        local_path("tiny", folder_of(base, files=files), root=root)
    assert "checkpoint.json" not in names_in(root / "tiny")
    asked = len(store.asked)
    assert contents(local_path("tiny", folder_of(base, files=files), root=root)) == files
    assert [path for path, _ in store.asked[asked:]] == [f"/base/{large[1]}"]
    assert store.headers("Range")[-1] is not None


def test_a_file_that_changed_is_the_only_one_fetched_again(root: Path, store: Site, base: dict[str, str]) -> None:
    path = local_path("tiny", folder_of(base), root=root)
    (path / "config.json").write_bytes(b"{}")
    store.asked.clear()
    assert contents(local_path("tiny", folder_of(base), root=root)) == FILES
    assert [asked for asked, _ in store.asked] == ["/base/config.json"]


@pytest.mark.parametrize("gone", ["config.json", "added_tokens.txt"])
def test_a_file_that_is_gone_is_fetched_again(root: Path, base: dict[str, str], gone: str) -> None:
    path = local_path("tiny", folder_of(base), root=root)
    (path / gone).unlink()
    assert contents(local_path("tiny", folder_of(base), root=root)) == FILES


def test_a_folder_put_there_by_hand_is_checked_and_taken_without_what_is_not_listed(
    root: Path, store: Site, base: dict[str, str]
) -> None:
    lay_out(root / "tiny" / "checkpoint", {**FILES, "more.safetensors": OTHER, "tokenizer/run.py": b"evil()"})
    assert contents(local_path("tiny", folder_of(base), root=root)) == FILES
    assert store.asked == []
    assert manifest_of(root / "tiny", "checkpoint")["source"] == "found on disk"


def test_a_file_with_wrong_content_is_named_and_leaves_no_manifest(
    root: Path, store: Site, base: dict[str, str]
) -> None:
    assert store.pages is not None
    store.pages["/base/config.json"] = Page(b'{"model_type": "evil"}')
    with pytest.raises(ModelSourceError, match=r"config\.json: its SHA-256 is [0-9a-f]{64}, expected"):
        local_path("tiny", folder_of(base), root=root)
    assert "checkpoint.json" not in names_in(root / "tiny")


def test_the_next_source_brings_only_what_is_missing(root: Path, store: Site, base: dict[str, str]) -> None:
    first = {f"/{quote(name)}": Page(content) for name, content in FILES.items() if name != "added_tokens.txt"}
    del first[f"/{quote('tokenizer/merges é.txt')}"]
    with serving(Site(pages=first)) as other:
        sources = ({"url": f"http://127.0.0.1:{other.port}"}, base)
        assert contents(local_path("tiny", folder_of(*sources), root=root)) == FILES
    assert [path for path, _ in store.asked] == [f"/base/{quote('tokenizer/merges é.txt')}"]


def test_a_path_is_used_where_it_lies_with_whatever_else_is_in_it(root: Path, tmp_path: Path) -> None:
    own = lay_out(tmp_path / "own", {**FILES, "notes.txt": b"mine"})
    assert local_path("tiny", folder_of({"path": str(own)}), root=root) == own
    assert contents(own) == {**FILES, "notes.txt": b"mine"}
    assert names_in(root / "tiny") == {"checkpoint.json"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda own: (own / "config.json").unlink(), r"config\.json: there is no such file"),
        (lambda own: (own / "config.json").write_bytes(OTHER), r"config\.json: it has 1000000 bytes, expected 22"),
    ],
    ids=["missing", "wrong"],
)
def test_a_path_that_is_not_right_is_told_with_the_file(root: Path, tmp_path: Path, change: Any, reason: str) -> None:
    own = lay_out(tmp_path / "own", FILES)
    change(own)
    with pytest.raises(ModelSourceError, match=reason):
        local_path("tiny", folder_of({"path": str(own)}), root=root)


def test_a_linked_folder_is_taken_as_it_is_when_right(root: Path, tmp_path: Path, base: dict[str, str]) -> None:
    own = lay_out(tmp_path / "own", {**FILES, "notes.txt": b"mine"})
    (root / "tiny").mkdir(parents=True)
    (root / "tiny" / "checkpoint").symlink_to(own)
    assert local_path("tiny", folder_of(base), root=root) == root / "tiny" / "checkpoint"
    assert contents(own) == {**FILES, "notes.txt": b"mine"}


def test_a_linked_folder_is_never_written_to(root: Path, tmp_path: Path, base: dict[str, str]) -> None:
    own = lay_out(tmp_path / "own", {"config.json": b"mine", "notes.txt": b"mine"})
    (root / "tiny").mkdir(parents=True)
    (root / "tiny" / "checkpoint").symlink_to(own)
    path = local_path("tiny", folder_of(base), root=root)
    assert contents(path) == FILES and not path.is_symlink()
    assert contents(own) == {"config.json": b"mine", "notes.txt": b"mine"}


def test_a_link_inside_the_folder_is_replaced_and_not_followed(
    root: Path, tmp_path: Path, base: dict[str, str]
) -> None:
    own = lay_out(tmp_path / "own", {"notes.txt": b"mine"})
    (root / "tiny" / "checkpoint").mkdir(parents=True)
    (root / "tiny" / "checkpoint" / "tokenizer").symlink_to(own)
    assert contents(local_path("tiny", folder_of(base), root=root)) == FILES
    assert contents(own) == {"notes.txt": b"mine"}


@pytest.mark.parametrize("in_the_way", ["checkpoint", "checkpoint/tokenizer"])
def test_a_file_in_the_place_of_a_folder_is_replaced(root: Path, base: dict[str, str], in_the_way: str) -> None:
    lay_out(root / "tiny", {in_the_way: b"x"})
    assert contents(local_path("tiny", folder_of(base), root=root)) == FILES


def test_a_folder_in_the_place_of_a_file_is_replaced(root: Path, base: dict[str, str]) -> None:
    (root / "tiny" / "checkpoint" / "config.json" / "deep").mkdir(parents=True)
    assert contents(local_path("tiny", folder_of(base), root=root)) == FILES


def test_the_entry_is_what_an_engine_gets(root: Path, base: dict[str, str]) -> None:
    entry = "model-00001-of-00002.safetensors"
    path = local_path("tiny", folder_of(base, entry=entry), root=root)
    assert path == root / "tiny" / "checkpoint" / entry
    assert (path.parent / "config.json").exists()


def test_verify_names_the_wrong_file_and_the_next_fetch_replaces_it(root: Path, base: dict[str, str]) -> None:
    weights = folder_of(base)
    path = local_path("tiny", weights, root=root)
    assert verify("tiny", weights, root=root) == path
    (path / "model-00001-of-00002.safetensors").write_bytes(OTHER[:600_000])
    with pytest.raises(ModelSourceError, match=r"tiny: .*/model-00001-of-00002\.safetensors is not right: its SHA"):
        verify("tiny", weights, root=root)
    assert contents(local_path("tiny", weights, root=root)) == FILES


def test_verify_names_a_file_that_is_missing(root: Path, base: dict[str, str]) -> None:
    path = local_path("tiny", folder_of(base), root=root)
    (path / "config.json").unlink()
    with pytest.raises(ModelSourceError, match=r"tiny: .*/config\.json is missing"):
        verify("tiny", folder_of(base), root=root)


def test_a_folder_is_listed_and_removed(root: Path, base: dict[str, str]) -> None:
    local_path("tiny", folder_of(base), root=root)
    size = sum(map(len, FILES.values()))
    (found,) = list_local(root=root)
    assert (found.name, found.state, found.size) == ("checkpoint", "ready", size)
    assert remove("tiny", root=root) == size
    assert names_in(root / "tiny") == set()


def test_a_folder_that_was_begun_is_listed_as_partial_and_can_be_removed(
    root: Path, store: Site, base: dict[str, str]
) -> None:
    store.cuts = [10**6, 300_000, 0, 0]
    with pytest.raises(ModelSourceError):
        local_path("tiny", folder_of(base), root=root)
    (found,) = list_local(root=root)
    assert (found.state, found.source) == ("partial", None)
    assert found.size == remove("tiny", root=root) > 200_000
    assert names_in(root / "tiny") == set()


def test_remove_leaves_a_users_own_folder(root: Path, tmp_path: Path) -> None:
    own = lay_out(tmp_path / "own", FILES)
    local_path("tiny", folder_of({"path": str(own)}), root=root)
    assert remove("tiny", root=root) == 0
    assert contents(own) == FILES


def test_progress_tells_the_whole_folder(
    root: Path, base: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    fetch("tiny", folder_of(base), progress=True, root=root)
    assert capsys.readouterr().err.splitlines() == [
        f"tiny: fetching 1.0 MB from {base['url'].split('/')[2]}",
        "tiny: 1.0 MB fetched and verified",
    ]


def test_the_same_name_for_a_file_and_a_folder_later_is_taken(root: Path, base: dict[str, str]) -> None:
    lay_out(root / "tiny", {"checkpoint.part": CONTENT[:5], "checkpoint.origin": b"{}"})
    assert contents(local_path("tiny", folder_of(base), root=root)) == FILES


def test_a_folder_comes_out_of_packages(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = tmp_path / "index"
    build_wheel(index, "small", {"data/config.json": FILES["config.json"], "data/a": FILES["added_tokens.txt"]})
    build_wheel(index, "large", {"a": CONTENT[:300_000], "b": CONTENT[300_000:600_000]})
    use_index(monkeypatch, index)
    names = ("config.json", "added_tokens.txt", "model-00001-of-00002.safetensors")
    source = {
        "packages": {
            "config.json": [{"package": "small==1.0", "file": "data/config.json"}],
            "added_tokens.txt": [{"package": "small==1.0", "file": "data/a"}],
            names[2]: [{"package": "large==1.0", "file": "a"}, {"package": "large==1.0", "file": "b"}],
        }
    }
    files = {name: FILES[name] for name in names}
    assert contents(local_path("tiny", folder_of(source, files=files), root=root)) == files
    assert names_in(root / "tiny") == {"checkpoint", "checkpoint.json"}
    assert manifest_of(root / "tiny", "checkpoint")["source"] == "packages small==1.0, large==1.0"


def test_a_checkpoint_without_the_libraries_that_make_it_is_told_before_its_gguf_is_fetched(
    root: Path, site: Site, base: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checkpoint, "_LIBRARIES", ("json", "no_such_library"))
    gguf = {"gguf": weights_of({"url": site.url}).model_dump(exclude_none=True)}
    assert contents(fetch("tiny", folder_of(gguf, base), progress=True, root=root)) == FILES
    expected = "model.gguf: a checkpoint is made with no_such_library; install it with: scripts/setup.sh check"
    assert expected in capsys.readouterr().err
    assert site.asked == []


def test_a_checkpoint_whose_gguf_cannot_be_had_falls_through_to_the_next_source(
    root: Path, base: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checkpoint, "_LIBRARIES", ())
    gguf = {"gguf": weights_of({"path": "/no/such/file"}).model_dump(exclude_none=True)}
    assert contents(fetch("tiny", folder_of(gguf, base), progress=True, root=root)) == FILES
    assert "tiny: model.gguf: no source gave the file (/no/such/file: there is no" in capsys.readouterr().err
