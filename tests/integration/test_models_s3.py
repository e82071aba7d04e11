"""Weights from S3: moto's server speaks its protocol, s3fs and fsspec talk to it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from moto.server import ThreadedMotoServer

from serve.models import ModelSourceError, fetch, local_path
from serve.models.sources import uri
from tests.unit.models.files import CONTENT, FILES, OTHER, contents, folder_of, manifest_of, names_in, weights_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of all models; not there yet."""
    return tmp_path / "models"


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    """The address of a server that speaks S3's protocol."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A file system of that server with an empty bucket, ``models``, and credentials in the environment."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    store = fsspec.filesystem("s3", endpoint_url=s3_server, skip_instance_cache=True)
    store.mkdir("models")
    yield store
    store.rm("models", recursive=True)


def s3_source(s3_server: str, key: str) -> dict[str, Any]:
    return {"uri": f"s3://models/{key}", "storage_options": {"endpoint_url": s3_server}}


def test_a_file_comes_from_s3(root: Path, s3: Any, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uri, "_RANGE", 300_000)
    s3.pipe_file("models/some dir/a#b?.gguf", CONTENT)
    weights = weights_of(s3_source(s3_server, "some dir/a#b?.gguf"))
    assert local_path("tiny", weights, root=root).read_bytes() == CONTENT
    assert manifest_of(root / "tiny")["source"] == "s3://models/some dir/a#b?.gguf"
    assert names_in(root / "tiny") == {"model.gguf", "model.gguf.json"}


def test_a_folder_comes_from_s3(root: Path, s3: Any, s3_server: str) -> None:
    for name, content in FILES.items():
        s3.pipe_file(f"models/tiny/{name}", content)
    weights = folder_of(s3_source(s3_server, "tiny/"))
    assert contents(local_path("tiny", weights, root=root)) == FILES


def test_a_key_that_is_not_there_falls_through_to_the_next_source(
    root: Path, s3: Any, s3_server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.gguf"
    own.write_bytes(CONTENT)
    weights = weights_of(s3_source(s3_server, "none.gguf"), {"path": str(own)})
    assert fetch("tiny", weights, progress=True, root=root) == own
    assert "tiny: s3://models: there is no such file; trying the next source" in capsys.readouterr().err


def test_missing_credentials_are_told_in_one_line(
    root: Path, s3: Any, s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ModelSourceError, match=r"\(s3://models: NoCredentialsError: Unable to locate credentials\)$"):
        local_path("tiny", weights_of(s3_source(s3_server, "a.gguf")), root=root)


def test_a_secret_reaches_no_message_and_no_manifest(
    root: Path, s3: Any, s3_server: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="serve")
    weights = weights_of(s3_source(s3_server, "a.gguf"))
    with pytest.raises(ModelSourceError) as caught:
        local_path("tiny", weights, root=root)
    s3.pipe_file("models/a.gguf", CONTENT)
    local_path("tiny", weights, root=root)
    manifest = (root / "tiny" / "model.gguf.json").read_text()
    assert "hunter2" not in f"{caught.value}{caplog.text}{manifest}"


def test_a_file_that_changed_in_the_store_since_the_cut_is_fetched_from_its_start(
    root: Path, s3: Any, s3_server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = weights_of(s3_source(s3_server, "a.gguf"))
    s3.pipe_file("models/a.gguf", OTHER)
    with monkeypatch.context() as patch:
        patch.setattr("serve.models.partial.PartialFile.finish", lambda part: sys.exit("killed"))
        with pytest.raises(SystemExit):
            local_path("tiny", weights, root=root)
    part = root / "tiny" / "model.gguf.part"
    part.write_bytes(part.read_bytes()[:400_000])
    s3.pipe_file("models/a.gguf", CONTENT)
    assert fetch("tiny", weights, progress=True, root=root).read_bytes() == CONTENT
    assert "starting over" not in capsys.readouterr().err
