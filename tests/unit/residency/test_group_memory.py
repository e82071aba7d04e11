"""Whether a group fits into its node, and what is told of it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve.models.manifest import record_of, write_manifest
from serve.models.place import Place
from serve.models.wanted import WantedFile
from serve.residency.group import GroupMemory, group_memory
from serve.residency.need import PROCESS_BYTES
from serve.settings.__main__ import main
from serve.settings.config import check
from serve.settings.errors import SettingsError
from tests.unit.residency.gguf_files import llama, write_gguf
from tests.unit.settings.group import AUTOSCALING, at, config, gateway, model

#: Cache of the small Llama for 1024 tokens.
CACHE = 1024 * 4 * 2 * 32 * 2
SIZE = 3_000_000_000


def replicas(application: dict[str, Any], least: int, most: int, initial: int | None = None) -> dict[str, Any]:
    """The same application with a number of replicas that changes."""
    deployment = at(application, "deployments", 0)
    deployment.pop("num_replicas")
    initial = least if initial is None else initial
    scaling = AUTOSCALING | {"min_replicas": least, "max_replicas": most, "initial_replicas": initial}
    deployment["autoscaling_config"] = scaling
    return application


def llamacpp(name: str, size: int = SIZE, **args: Any) -> dict[str, Any]:
    """A model of ``size`` bytes that is not here."""
    weights = {"file": "m.gguf", "bytes": size, "sha256": "0" * 64, "sources": [{"path": "/none"}]}
    return model(name, handler="llamacpp", weights=weights, engine={"context": 1024, "slots": 1}, **args)


def memory(*models: dict[str, Any], limit: int = 10**12, root: Path) -> GroupMemory:
    head = gateway()
    at(head, "deployments", 0).pop("user_config")
    return group_memory(check({"applications": [head, *models]}), limit, root=root)


def test_models_that_stay_add_up_with_their_processes(tmp_path: Path) -> None:
    found = memory(llamacpp("a"), replicas(llamacpp("b"), 2, 3), model("c"), root=tmp_path)
    assert found.least == 3 * SIZE + 4 * PROCESS_BYTES
    assert found.most == 4 * SIZE + 5 * PROCESS_BYTES


def test_of_models_that_come_and_go_only_the_largest_counts(tmp_path: Path) -> None:
    found = memory(
        llamacpp("stays", 10),
        llamacpp("small", residency="on_demand"),
        llamacpp("large", 2 * SIZE, residency="on_demand"),
        replicas(llamacpp("sleeps"), 0, 2),
        root=tmp_path,
    )
    assert found.least == 10 + 2 * SIZE + 3 * PROCESS_BYTES


def test_a_model_that_sleeps_counts_whole_when_it_is_the_largest(tmp_path: Path) -> None:
    assert memory(replicas(llamacpp("a"), 0, 2), root=tmp_path).least == SIZE + PROCESS_BYTES


def test_replicas_that_start_at_once_count_even_if_they_may_go_later(tmp_path: Path) -> None:
    assert memory(replicas(llamacpp("a"), 0, 2, initial=2), root=tmp_path).least == 2 * (SIZE + PROCESS_BYTES)


def test_a_group_that_does_not_fit_is_refused_in_one_line_with_both_numbers(tmp_path: Path) -> None:
    found = memory(llamacpp("a"), limit=2_000_000_000, root=tmp_path)
    assert not found.fits
    with pytest.raises(SettingsError) as raised:
        found.require_fit()
    [line] = str(raised.value).splitlines()
    assert "at least 3.17 GB" in line and "2.00 GB" in line and "GROUPQWEN_MEMORY_LIMIT" in line


def test_a_group_that_fits_is_not_refused(tmp_path: Path) -> None:
    memory(llamacpp("a"), limit=SIZE + PROCESS_BYTES, root=tmp_path).require_fit()


def here(root: Path, application: dict[str, Any]) -> dict[str, Any]:
    """The same application, whose file is a small Llama that lies here, checked."""
    place = Place.of(application["name"], "m.gguf", root)
    place.folder.mkdir(parents=True)
    write_gguf(place.path, llama())
    note(place)
    sha256 = hashlib.sha256(place.path.read_bytes()).hexdigest()
    application["args"]["weights"] |= {"bytes": place.path.stat().st_size, "sha256": sha256}
    return application


def note(place: Place) -> None:
    """Write the manifest of what lies there."""
    seen = place.path.stat()
    digest = f"sha256:{hashlib.sha256(place.path.read_bytes()).hexdigest()}"
    write_manifest(place, place.path, [record_of(WantedFile("", seen.st_size, digest), seen)], "made here")


def test_the_cache_counts_once_the_file_is_here(tmp_path: Path) -> None:
    [row] = memory(here(tmp_path, llamacpp("a")), root=tmp_path).rows
    assert row.need.cache == CACHE


def test_a_file_that_is_no_model_is_told_with_its_models_name(tmp_path: Path) -> None:
    application = here(tmp_path, llamacpp("a"))
    place = Place.of("a", "m.gguf", tmp_path)
    place.path.write_bytes(b"x" * application["args"]["weights"]["bytes"])
    note(place)
    application["args"]["weights"]["sha256"] = hashlib.sha256(place.path.read_bytes()).hexdigest()
    with pytest.raises(SettingsError, match=r"^a: .*no GGUF file"):
        memory(application, root=tmp_path)


def test_the_table_has_every_model_and_says_what_is_not_known(tmp_path: Path) -> None:
    text = memory(
        replicas(llamacpp("absent"), 1, 2), here(tmp_path, llamacpp("present", residency="on_demand")), root=tmp_path
    ).table()
    head, absent, present, total, note = text.splitlines()
    assert head.split()[:3] == ["MODEL", "WEIGHTS", "CACHE"]
    assert absent.split()[0] == "absent" and " ? " in absent and "1..2" in absent and "3.17 GB+" in absent
    assert present.split()[0] == "present" and " ? " not in present and present.endswith("on_demand")
    assert total.startswith("needed: ") and "does not start" not in total
    assert "?" in note


def test_the_table_says_that_not_every_replica_may_start(tmp_path: Path) -> None:
    text = memory(replicas(llamacpp("a"), 1, 2), limit=4_000_000_000, root=tmp_path).table()
    assert "a replica for which there is no room does not start" in text


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The path of a right config whose group needs more memory than it gets."""
    raw = config()
    at(raw, "applications", 2, "args", "weights")["bytes"] = SIZE
    path = tmp_path / "large.yaml"
    path.write_text(yaml.safe_dump(raw))
    monkeypatch.setenv("GROUPQWEN_HOME", str(tmp_path))
    monkeypatch.setenv("GROUPQWEN_MEMORY_LIMIT", "2GB")
    return str(path)


def test_the_check_refuses_what_does_not_fit_after_a_table(large: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([large]) == 1
    output, errors = capsys.readouterr()
    assert output.startswith("MODEL") and "strong" in output and "right" not in output
    assert errors.startswith(f"{large}: the group does not fit: it needs at least 3.34 GB")
    assert len(errors.splitlines()) == 1


def test_a_group_for_other_nodes_is_not_held_to_this_one(large: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--elsewhere", large]) == 0
    assert capsys.readouterr().out == f"{large}: right; quick, strong\n"


def test_the_table_is_printed_when_it_is_asked_for(
    large: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GROUPQWEN_MEMORY_LIMIT", "1TB")
    assert main(["--memory", large]) == 0
    assert capsys.readouterr().out.startswith("MODEL")
