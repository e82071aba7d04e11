"""The hub that the tests of downloads run against, seen by the hub's own client: it must find what ours finds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile

from serve.models import local_path
from serve.models.manifest import Manifest
from tests.unit.models.files import FILES, folder_of
from tests.unit.models.hub import REPO, REVISION, TREE, hub_folder, hub_site, listing
from tests.unit.models.web import Page, Site, serving

#: How the client writes the same question.
CLIENTS_TREE = f"{TREE}&expand=false"


def _files(site: Site) -> dict[str, RepoFile]:
    found = HfApi(endpoint=f"http://127.0.0.1:{site.port}", token=False).list_repo_tree(
        REPO, revision=REVISION, recursive=True
    )
    return {entry.path: entry for entry in found if isinstance(entry, RepoFile)}


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    # The vLLM handler, which tests of this folder import, keeps the client off the network.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


def test_the_client_finds_the_files_sizes_and_hashes_that_are_noted_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(hub_site(FILES)) as site:
        assert site.pages is not None
        entries = listing(FILES)
        follows = {"Link": f'<http://127.0.0.1:{site.port}{CLIENTS_TREE}&cursor=x>; rel="next"'}
        site.pages[CLIENTS_TREE] = Page(json.dumps(entries[:2]).encode(), follows)
        site.pages[f"{CLIENTS_TREE}&cursor=x"] = Page(json.dumps(entries[2:]).encode())
        seen = _files(site)
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{site.port}")
        local_path("tiny", folder_of(hub_folder(), files=None), root=tmp_path)
    manifest = Manifest.model_validate_json((tmp_path / "tiny" / "checkpoint.json").read_bytes())
    noted = {file.file: (file.size, file.digest) for file in manifest.files}
    assert noted == {
        name: (file.size, f"sha256:{file.lfs.sha256}" if file.lfs else f"git:{file.blob_id}")
        for name, file in seen.items()
    }


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [(403, "GatedRepo", GatedRepoError), (404, "RevisionNotFound", RevisionNotFoundError)],
)
def test_the_client_reads_the_same_reasons_from_the_same_headers(
    status: int, code: str, kind: type[Exception]
) -> None:
    with serving(Site(statuses=[status], error_headers={"X-Error-Code": code})) as site, pytest.raises(kind):
        _files(site)
