"""Downloads: resumed, tried again, refused, and what they tell no one."""

from __future__ import annotations

import hashlib
import logging
import socket
import traceback
from pathlib import Path

import pytest

from serve.models import ModelSourceError, fetch, local_path
from serve.models.sources import http, retry
from tests.unit.models.files import CONTENT, OTHER, manifest_of, names_in, weights_of
from tests.unit.models.web import Site, serving


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_download_leaves_the_file_and_its_manifest_and_nothing_else(root: Path, site: Site) -> None:
    path = local_path("tiny", weights_of({"url": site.url}), root=root)
    assert path == root / "tiny" / "model.gguf"
    assert path.read_bytes() == CONTENT
    assert names_in(root / "tiny") == {"model.gguf", "model.gguf.json"}
    manifest = manifest_of(root / "tiny")
    assert manifest["source"] == site.url
    assert manifest["files"][0]["mtime_ns"] == path.stat().st_mtime_ns


def test_the_bytes_on_the_wire_are_asked_for_uncompressed(root: Path, site: Site) -> None:
    local_path("tiny", weights_of({"url": site.url}), root=root)
    assert site.headers("Accept-Encoding") == ["identity"]


def test_a_cut_connection_is_resumed_where_it_was_cut(root: Path, site: Site) -> None:
    site.cuts = [600_000]
    path = local_path("tiny", weights_of({"url": site.url}), root=root)
    assert path.read_bytes() == CONTENT
    first, second = site.headers("Range")
    assert first is None and second is not None
    assert 500_000 < int(second.removeprefix("bytes=").removesuffix("-")) <= 600_000
    assert site.headers("If-Range") == [None, '"v1"']


def test_an_answer_that_ends_early_without_saying_its_length_is_resumed(root: Path, site: Site) -> None:
    site.length, site.cuts = False, [300_000]
    assert local_path("tiny", weights_of({"url": site.url}), root=root).read_bytes() == CONTENT
    assert site.headers("Range")[1] == "bytes=300000-"


def test_a_later_fetch_resumes_what_an_earlier_one_left(root: Path, site: Site) -> None:
    site.cuts = [200_000, 200_000, 200_000]
    weights = weights_of({"url": site.url})
    with pytest.raises(ModelSourceError, match=r"cut after \d+ of 1000000 bytes \(3 tries\)"):
        local_path("tiny", weights, root=root)
    assert "model.gguf.json" not in names_in(root / "tiny")
    assert local_path("tiny", weights, root=root).read_bytes() == CONTENT
    kept = int(str(site.headers("Range")[3]).removeprefix("bytes=").removesuffix("-"))
    assert 400_000 < kept <= 600_000


def test_a_file_that_changed_since_the_cut_is_fetched_from_its_start(root: Path, site: Site) -> None:
    site.content, site.cuts = OTHER, [500_000, 0, 0]
    weights = weights_of({"url": site.url})
    with pytest.raises(ModelSourceError):
        local_path("tiny", weights, root=root)
    site.content, site.etag = CONTENT, '"v2"'
    assert local_path("tiny", weights, root=root).read_bytes() == CONTENT
    assert len(site.asked) == 4


def test_a_weak_etag_is_not_used_to_resume(root: Path, site: Site) -> None:
    site.etag, site.cuts = 'W/"v1"', [500_000]
    assert local_path("tiny", weights_of({"url": site.url}), root=root).read_bytes() == CONTENT
    assert site.headers("If-Range") == [None, None]


def test_a_server_that_cannot_resume_starts_over(root: Path, site: Site) -> None:
    site.ranges, site.cuts = False, [600_000]
    assert local_path("tiny", weights_of({"url": site.url}), root=root).read_bytes() == CONTENT
    assert len(site.asked) == 2


def test_a_server_that_resumes_at_another_place_is_asked_for_the_whole(root: Path, site: Site) -> None:
    site.shift, site.cuts = -1000, [600_000]
    assert local_path("tiny", weights_of({"url": site.url}), root=root).read_bytes() == CONTENT
    assert site.headers("Range")[2] is None


def test_a_range_that_is_refused_starts_over(root: Path, site: Site) -> None:
    folder = root / "tiny"
    folder.mkdir(parents=True)
    (folder / "model.gguf.part").write_bytes(CONTENT[:400_000])
    site.statuses = [416]
    assert local_path("tiny", weights_of({"url": site.url}), root=root).read_bytes() == CONTENT
    assert site.headers("Range") == ["bytes=400000-", None]


def test_a_wrong_start_left_by_an_earlier_try_is_thrown_away(root: Path, site: Site) -> None:
    folder = root / "tiny"
    folder.mkdir(parents=True)
    (folder / "model.gguf.part").write_bytes(OTHER[:400_000])
    assert local_path("tiny", weights_of({"url": site.url}), root=root).read_bytes() == CONTENT
    assert site.headers("Range") == ["bytes=400000-", None]


def test_a_part_larger_than_the_file_is_thrown_away(root: Path, site: Site) -> None:
    folder = root / "tiny"
    folder.mkdir(parents=True)
    (folder / "model.gguf.part").write_bytes(CONTENT + b"more")
    assert local_path("tiny", weights_of({"url": site.url}), root=root).read_bytes() == CONTENT
    assert site.headers("Range") == [None]


def test_a_whole_part_is_used_without_asking_anyone(root: Path, site: Site) -> None:
    folder = root / "tiny"
    folder.mkdir(parents=True)
    (folder / "model.gguf.part").write_bytes(CONTENT)
    assert local_path("tiny", weights_of({"url": site.url}), root=root).read_bytes() == CONTENT
    assert site.asked == []


def test_the_next_source_goes_on_where_the_last_one_failed(root: Path, site: Site) -> None:
    with serving(Site(CONTENT, cuts=[300_000, 0, 0])) as failing:
        weights = weights_of({"url": failing.url}, {"url": site.url})
        assert local_path("tiny", weights, root=root).read_bytes() == CONTENT
    assert site.headers("Range")[0] is not None
    assert site.headers("If-Range") == [None]


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_busy_server_is_asked_again(root: Path, site: Site, status: int) -> None:
    site.statuses = [status, status]
    assert local_path("tiny", weights_of({"url": site.url}), root=root).read_bytes() == CONTENT
    assert len(site.asked) == 3


def test_a_server_that_stays_busy_is_given_up_after_three_tries(root: Path, site: Site) -> None:
    site.statuses = [503] * 4
    with pytest.raises(ModelSourceError, match=r"answered 503 Service Unavailable \(3 tries\)"):
        local_path("tiny", weights_of({"url": site.url}), root=root)
    assert len(site.asked) == 3


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_final(root: Path, site: Site, status: int) -> None:
    site.statuses = [status] * 2
    with pytest.raises(ModelSourceError, match=f"answered {status}"):
        local_path("tiny", weights_of({"url": site.url}), root=root)
    assert len(site.asked) == 1


def test_a_host_that_is_not_there_is_not_tried_again(
    root: Path, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    port = _closed_port()
    weights = weights_of(
        {"url": f"http://127.0.0.1:{port}/x"}, {"url": "http://nowhere.invalid/x"}, {"url": site.url}
    )
    assert fetch("tiny", weights, progress=True, root=root).read_bytes() == CONTENT
    told = capsys.readouterr().err
    assert f"tiny: 127.0.0.1:{port}: no connection (refused); trying the next source\n" in told
    assert "nowhere.invalid: no connection (its name does not resolve); trying the next source\n" in told
    assert f"tiny: fetching 1.0 MB from 127.0.0.1:{site.port}\n" in told
    assert "trying again" not in told


def test_a_host_that_does_not_speak_tls_is_named_as_such(root: Path, site: Site) -> None:
    weights = weights_of({"url": site.url.replace("http://", "https://")})
    with pytest.raises(ModelSourceError, match="TLS failed: "):
        local_path("tiny", weights, root=root)


def test_a_host_that_drops_connections_is_given_up_at_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_CONNECT_SECONDS", 1.0)
    with socket.socket() as full, socket.socket() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        # Nobody accepts, so this one connection fills the queue, and the kernel drops the next.
        waiting.connect(full.getsockname())
        weights = weights_of({"url": f"http://127.0.0.1:{full.getsockname()[1]}/x"})
        with pytest.raises(ModelSourceError, match=r"no connection within 1 s\)$"):
            local_path("tiny", weights, root=root)


def test_a_server_that_stalls_is_given_up(root: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_READ_SECONDS", 3.0)
    monkeypatch.setattr(retry, "_TRIES", 1)
    site.hold = 0
    with pytest.raises(ModelSourceError, match=r"no data for 3 s after 0 of 1000000 bytes"):
        local_path("tiny", weights_of({"url": site.url}), root=root)


def test_an_endless_redirect_is_an_error(root: Path, site: Site) -> None:
    site.redirect = site.url
    with pytest.raises(ModelSourceError, match="TooManyRedirects"):
        local_path("tiny", weights_of({"url": site.url}), root=root)


def test_wrong_bytes_are_removed_and_the_next_source_is_tried(
    root: Path, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(Site(OTHER)) as wrong:
        weights = weights_of({"url": wrong.url}, {"url": site.url})
        path = fetch("tiny", weights, progress=True, root=root)
    assert path.read_bytes() == CONTENT
    assert site.headers("Range") == [None]
    got = hashlib.sha256(OTHER).hexdigest()
    assert f"its SHA-256 is {got}, expected {weights.sha256}; trying the next" in capsys.readouterr().err


def test_wrong_bytes_from_every_source_leave_nothing_behind(root: Path, site: Site) -> None:
    site.content = OTHER
    with pytest.raises(ModelSourceError, match=r"tiny: no source gave the file \(127.*; 127.*SHA-256"):
        local_path("tiny", weights_of({"url": site.url}, {"url": site.url}), root=root)
    assert names_in(root / "tiny") == set()


@pytest.mark.parametrize("size", [999_999, 1_000_001])
def test_a_file_of_another_size_is_refused_before_it_is_downloaded(root: Path, site: Site, size: int) -> None:
    site.content = (CONTENT + CONTENT)[:size]
    with pytest.raises(ModelSourceError, match=f"the file there has {size} bytes, expected 1000000"):
        local_path("tiny", weights_of({"url": site.url}), root=root)


def test_an_answer_without_end_is_cut_at_the_size_expected(root: Path, site: Site) -> None:
    site.content, site.length = CONTENT + OTHER, False
    with pytest.raises(ModelSourceError, match="larger than the 1000000 bytes expected"):
        local_path("tiny", weights_of({"url": site.url}), root=root)
    assert names_in(root / "tiny") == set()


def test_secrets_of_an_address_reach_no_message_no_log_and_no_manifest(
    root: Path, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="serve")
    closed = f"http://user:hunter2@127.0.0.1:{_closed_port()}/x?signature=hunter2"
    with pytest.raises(ModelSourceError) as caught:
        local_path("tiny", weights_of({"url": closed}), root=root)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    local_path("tiny", weights_of({"url": closed}, {"url": f"{site.url}?signature=hunter2"}), root=root)
    assert site.asked[0][0] == "/model.gguf?signature=hunter2"
    assert "no connection" in caplog.text
    assert "hunter2" not in caplog.text
    assert "hunter2" not in (root / "tiny" / "model.gguf.json").read_text()
