"""The model hub: its addresses, and who gets to see its token."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from serve.models import ModelSourceError, local_path
from tests.unit.models.files import CONTENT, manifest_of, weights_of
from tests.unit.models.web import Site, serving

REVISION = "0123456789abcdef0123456789abcdef01234567"
HUB = {"hub": {"repo": "some-group/some.model", "revision": REVISION, "file": "gguf/q4 k.gguf"}}


@pytest.fixture
def hub(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The server, set up as the hub, with a token."""
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{site.port}/")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    return site


def test_a_file_is_asked_for_at_its_pinned_revision(root: Path, hub: Site) -> None:
    assert local_path("tiny", weights_of(HUB), root=root).read_bytes() == CONTENT
    path = f"/some-group/some.model/resolve/{REVISION}/gguf/q4%20k.gguf"
    assert hub.asked[0][0] == path
    assert manifest_of(root / "tiny")["source"] == f"http://127.0.0.1:{hub.port}{path}"


def test_the_hub_gets_the_token(root: Path, hub: Site) -> None:
    local_path("tiny", weights_of(HUB), root=root)
    assert hub.headers("Authorization") == ["Bearer hf_secret"]


def test_without_a_token_none_is_sent(root: Path, hub: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    local_path("tiny", weights_of(HUB), root=root)
    assert hub.headers("Authorization") == [None]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_host_that_the_hub_redirects_to_does_not_get_the_token(root: Path, hub: Site, host: str) -> None:
    with serving(Site(CONTENT)) as storage:
        hub.redirect = f"http://{host}:{storage.port}/blob?signature=s"
        assert local_path("tiny", weights_of(HUB), root=root).read_bytes() == CONTENT
        assert hub.headers("Authorization") == ["Bearer hf_secret"]
        assert storage.headers("Authorization") == [None]


def test_a_redirected_download_is_resumed_at_the_storage(root: Path, hub: Site) -> None:
    with serving(Site(CONTENT, etag='"blob"', cuts=[600_000])) as storage:
        hub.redirect = storage.url
        assert local_path("tiny", weights_of(HUB), root=root).read_bytes() == CONTENT
        assert storage.headers("If-Range") == [None, '"blob"']
        assert str(storage.headers("Range")[1]).startswith("bytes=5")


def test_a_plain_address_does_not_get_the_token(root: Path, hub: Site) -> None:
    local_path("tiny", weights_of({"url": hub.url}), root=root)
    assert hub.headers("Authorization") == [None]


def test_a_netrc_entry_does_not_replace_the_token(
    root: Path, hub: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    local_path("tiny", weights_of(HUB), root=root)
    assert hub.headers("Authorization") == ["Bearer hf_secret"]


def test_the_token_is_not_told_to_anyone(root: Path, hub: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    hub.statuses = [503, 503, 503, 404]
    for _ in range(2):
        with pytest.raises(ModelSourceError) as caught:
            local_path("tiny", weights_of(HUB), root=root)
        assert "hf_secret" not in str(caught.value)
    local_path("tiny", weights_of(HUB), root=root)
    assert "trying again" in caplog.text
    assert "hf_secret" not in caplog.text
    assert "hf_secret" not in (root / "tiny" / "model.gguf.json").read_text()
