"""Folders from the model hub: its list at a pinned revision says what the files are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serve.models import ModelSourceError, local_path, verify
from tests.unit.models.files import CONTENT, FILES, OTHER, contents, folder_of, manifest_of, names_in
from tests.unit.models.hub import LARGE, REPO, REVISION, TREE, entry, hub_folder, hub_site, listing, resolved
from tests.unit.models.web import Page, Site, serving


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A hub with one repository."""
    with serving(hub_site(FILES)) as running:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{running.port}")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield running


def pages_of(hub: Site) -> dict[str, Page]:
    assert hub.pages is not None
    return hub.pages


def list_with(hub: Site, *entries: Any) -> None:
    """Make the hub's list this one."""
    pages_of(hub)[TREE] = Page(json.dumps(entries).encode())


def test_all_files_come_by_the_hubs_list(root: Path, hub: Site) -> None:
    path = local_path("tiny", folder_of(hub_folder(), files=None), root=root)
    assert contents(path) == FILES
    manifest = manifest_of(root / "tiny", "checkpoint")
    kinds = {file["file"]: file["digest"].partition(":")[0] for file in manifest["files"]}
    assert kinds == {name: "sha256" if len(content) >= LARGE else "git" for name, content in FILES.items()}
    assert manifest["pin"] == f"hub {REPO}@{REVISION}"


def test_a_second_start_does_not_ask_the_hub(root: Path, hub: Site) -> None:
    local_path("tiny", folder_of(hub_folder(), files=None), root=root)
    hub.asked.clear()
    local_path("tiny", folder_of(hub_folder(), files=None), root=root)
    assert hub.asked == []


def test_files_that_the_settings_list_need_no_list_of_the_hub(root: Path, hub: Site) -> None:
    del pages_of(hub)[TREE]
    files = {name: FILES[name] for name in ("config.json", "model-00001-of-00002.safetensors")}
    assert contents(local_path("tiny", folder_of(hub_folder(), files=files), root=root)) == files


def test_patterns_choose_files(root: Path, hub: Site) -> None:
    source = hub_folder(include=["*.safetensors", "config.json", "tokenizer/*"], exclude=["model-00002*"])
    path = local_path("tiny", folder_of(source, files=None), root=root)
    assert set(contents(path)) == {"config.json", "model-00001-of-00002.safetensors", "tokenizer/merges é.txt"}


def test_other_patterns_are_other_weights_and_what_is_here_is_kept(root: Path, hub: Site) -> None:
    local_path("tiny", folder_of(hub_folder(include=["*.safetensors"]), files=None), root=root)
    hub.asked.clear()
    path = local_path("tiny", folder_of(hub_folder(include=["model-00002*", "*.json"]), files=None), root=root)
    assert set(contents(path)) == {"config.json", "model-00002-of-00002.safetensors"}
    assert [asked for asked, _ in hub.asked] == [TREE, resolved("config.json")]


def test_patterns_that_choose_nothing_are_an_error(root: Path, hub: Site) -> None:
    with pytest.raises(ModelSourceError, match="no file of the repository is chosen"):
        local_path("tiny", folder_of(hub_folder(include=["*.gguf"]), files=None), root=root)


@pytest.mark.parametrize("name", ["config.json", "model-00002-of-00002.safetensors"])
def test_a_file_that_is_not_what_the_list_says_is_refused(root: Path, hub: Site, name: str) -> None:
    pages_of(hub)[resolved(name)] = Page(OTHER[: len(FILES[name])])
    with pytest.raises(ModelSourceError, match=rf"{name}: its (git hash|SHA-256) is"):
        local_path("tiny", folder_of(hub_folder(), files=None), root=root)
    assert "checkpoint.json" not in names_in(root / "tiny")


@pytest.mark.parametrize(
    "name",
    [
        "../escaped",
        "/etc/escaped",
        "a/../../escaped",
        "a//b",
        "./a",
        "a\\..\\escaped",
        "a\0b",
        "",
        "a\nb",
        "x" * 2000,
    ],
)
def test_a_list_that_leads_out_of_the_folder_is_refused_whole(
    root: Path, tmp_path: Path, hub: Site, name: str
) -> None:
    list_with(hub, *listing(FILES), entry(name, b"evil"))
    with pytest.raises(ModelSourceError, match=r"its list of files is refused: .* is not a plain path"):
        local_path("tiny", folder_of(hub_folder(), files=None), root=root)
    assert not list(tmp_path.rglob("*escaped*"))
    assert len(hub.asked) == 1


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b"), ("a/b/c", "a")])
def test_a_list_that_contradicts_itself_is_refused(root: Path, hub: Site, names: tuple[str, str]) -> None:
    list_with(hub, *(entry(name, b"x") for name in names))
    with pytest.raises(ModelSourceError, match="its list of files makes no sense"):
        local_path("tiny", folder_of(hub_folder(), files=None), root=root)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"<html>", b'[{"type": "file"}]', b'[{"type":"file","path":"a","oid":"x"}]']
)
def test_a_list_that_cannot_be_read_is_an_error(root: Path, hub: Site, body: bytes) -> None:
    pages_of(hub)[TREE] = Page(body)
    with pytest.raises(ModelSourceError, match="its list of files cannot be read"):
        local_path("tiny", folder_of(hub_folder(), files=None), root=root)


def test_a_list_in_pages_is_followed_at_the_hubs_own_address(root: Path, hub: Site) -> None:
    entries = listing(FILES)
    link = {"Link": f'<https://elsewhere.invalid{TREE}&cursor=a%2Bb%3D>; rel="next"'}
    pages_of(hub)[TREE] = Page(json.dumps(entries[:2]).encode(), link)
    pages_of(hub)[f"{TREE}&cursor=a%2Bb%3D"] = Page(json.dumps(entries[2:]).encode())
    assert contents(local_path("tiny", folder_of(hub_folder(), files=None), root=root)) == FILES


def test_a_list_without_end_is_given_up(root: Path, hub: Site) -> None:
    link = {"Link": f'<{TREE}&cursor=x>; rel="next"'}
    for path in (TREE, f"{TREE}&cursor=x"):
        pages_of(hub)[path] = Page(json.dumps([entry("a", b"x")]).encode(), link)
    with pytest.raises(ModelSourceError, match="more than 100 pages"):
        local_path("tiny", folder_of(hub_folder(), files=None), root=root)


def test_verify_needs_no_hub(root: Path, hub: Site) -> None:
    weights = folder_of(hub_folder(), files=None)
    path = local_path("tiny", weights, root=root)
    hub.asked.clear()
    assert verify("tiny", weights, root=root) == path
    assert hub.asked == []
    assert manifest_of(root / "tiny", "checkpoint")["pin"] == f"hub {REPO}@{REVISION}"
    (path / "config.json").write_bytes(CONTENT[: len(FILES["config.json"])])
    with pytest.raises(ModelSourceError, match=r"config\.json is not right: its git hash"):
        verify("tiny", weights, root=root)


def test_an_entry_that_the_hub_does_not_have_is_an_error(root: Path, hub: Site) -> None:
    with pytest.raises(ModelSourceError, match=r"the entry 'model\.gguf' is not in"):
        local_path("tiny", folder_of(hub_folder(), files=None, entry="model.gguf"), root=root)
