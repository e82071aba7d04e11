"""The model hub: its addresses, and who gets to see its token."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from serve.models import ModelSourceError, local_path
from tests.unit.models.files import CONTENT, folder_of, manifest_of, names_in, weights_of
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


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    ("code", "why"), [("GatedRepo", "the repository is gated"), ("", "it is private, gated or not there")]
)
def test_a_gated_repository_says_what_to_do(root: Path, hub: Site, status: int, code: str, why: str) -> None:
    hub.statuses, hub.error_headers = [status], {"X-Error-Code": code}
    with pytest.raises(ModelSourceError) as caught:
        local_path("tiny", weights_of(HUB), root=root)
    todo = "accept its licence on the hub's page and set HF_TOKEN to a token whose account may see it"
    assert f": {why}; {todo})" in str(caught.value)
    assert len(hub.asked) == 1


@pytest.mark.parametrize(("code", "what"), [("RevisionNotFound", "revision"), ("EntryNotFound", "file")])
def test_what_the_repository_does_not_have_is_named(root: Path, hub: Site, code: str, what: str) -> None:
    hub.statuses, hub.error_headers = [404], {"X-Error-Code": code}
    with pytest.raises(ModelSourceError, match=f"answered 404 Not Found: the repository has no such {what}"):
        local_path("tiny", weights_of(HUB), root=root)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between tries, which take no time."""
    found: list[float] = []
    monkeypatch.setattr("serve.models.sources.retry.sleep", found.append)
    return found


@pytest.mark.parametrize("asked", ["7", "Wed, 21 Oct 2015 07:28:00 GMT", "", "soon", "-1"])
def test_a_hub_that_counts_requests_is_asked_again_when_it_says(
    root: Path, hub: Site, pauses: list[float], asked: str
) -> None:
    hub.statuses, hub.error_headers = [429, 429], {"Retry-After": asked}
    assert local_path("tiny", weights_of(HUB), root=root).read_bytes() == CONTENT
    said = {"7": 7.0}.get(asked, 0.0)
    assert pauses == [said, said]


def test_a_hub_that_asks_for_a_long_wait_is_given_up_at_once(root: Path, hub: Site, pauses: list[float]) -> None:
    hub.statuses, hub.error_headers = [429], {"Retry-After": "3600"}
    with pytest.raises(ModelSourceError, match="answered 429 Too Many Requests, and asks to wait 3600 s"):
        local_path("tiny", weights_of(HUB), root=root)
    assert pauses == []


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"X-Linked-Size": "999"}, "the file there has 999 bytes, expected 1000000"),
        ({"X-Linked-Etag": f'"{"0" * 64}"'}, f"the file there has the SHA-256 {'0' * 64}, expected sha256:"),
        ({"X-Repo-Commit": "f" * 40}, "it answers with another revision than the one asked for"),
    ],
    ids=["size", "hash", "revision"],
)
def test_what_the_hub_says_of_another_file_is_noticed_before_its_storage_sends_it(
    root: Path, hub: Site, headers: dict[str, str], reason: str
) -> None:
    with serving(Site(CONTENT)) as storage:
        hub.redirect, hub.redirect_headers = storage.url, headers
        with pytest.raises(ModelSourceError, match=reason):
            local_path("tiny", weights_of(HUB), root=root)
    assert names_in(root / "tiny") == set()


def test_what_the_hub_says_of_the_right_file_is_taken(root: Path, hub: Site) -> None:
    weights = weights_of(HUB)
    with serving(Site(CONTENT)) as storage:
        hub.redirect = storage.url
        hub.redirect_headers = {
            "X-Linked-Size": str(len(CONTENT)),
            "X-Linked-Etag": f'"{weights.sha256}"',
            "X-Repo-Commit": REVISION,
            "X-Xet-Hash": "f" * 64,
        }
        assert local_path("tiny", weights, root=root).read_bytes() == CONTENT


def test_the_list_of_a_gated_repository_says_what_to_do(
    root: Path, hub: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    hub.statuses, hub.error_headers = [401], {"X-Error-Code": "GatedRepo"}
    folder = {"hub": {"repo": HUB["hub"]["repo"], "revision": REVISION}}
    with pytest.raises(ModelSourceError, match=r"the repository is gated; accept its .* set HF_TOKEN to a token"):
        local_path("tiny", folder_of(folder, files=None), root=root)


def test_the_list_is_asked_for_with_the_token(root: Path, hub: Site) -> None:
    hub.statuses = [404]
    folder = {"hub": {"repo": HUB["hub"]["repo"], "revision": REVISION}}
    with pytest.raises(ModelSourceError, match="answered 404"):
        local_path("tiny", folder_of(folder, files=None), root=root)
    assert hub.headers("Authorization") == ["Bearer hf_secret"]
    assert hub.asked[0][0] == f"/api/models/some-group/some.model/tree/{REVISION}?recursive=true"


def test_a_mirror_under_a_path_is_asked_there(root: Path, hub: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{hub.port}/mirror/")
    local_path("tiny", weights_of(HUB), root=root)
    assert hub.asked[0][0].startswith("/mirror/some-group/some.model/resolve/")
