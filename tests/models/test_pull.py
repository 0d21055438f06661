"""Fetching model files, against a hub on loopback with all the faults that hubs and networks have."""

from __future__ import annotations

import hashlib
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cultev.errors import DownloadError, NoRoom, UsageError
from cultev.models.http import Client, Retries, Transient, origin
from cultev.models.pull import Pulled, choose, open_repository, pull
from tests.cli.command import cultev, fails
from tests.models.hub import Hub, serve

_CONNECT, _LOOK_UP = socket.socket.connect, socket.getaddrinfo
DATA = bytes(range(256)) * 4000
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(autouse=True)
def loopback(no_network: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow 127.0.0.1, and nothing else."""

    def connect(self: socket.socket, address: Any) -> None:
        assert address[0] == "127.0.0.1", f"cultev tried to reach {address}"
        _CONNECT(self, address)

    def look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        assert host == "127.0.0.1", f"cultev tried to look up {host}"
        return _LOOK_UP(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve(Hub({"model.gguf": DATA})) as served:
        yield served


WAITS: list[float] = []


def retries(times: int = 3) -> Retries:
    WAITS.clear()
    return Retries(times=times, first=1.0, sleep=WAITS.append)


def get(hub: Hub, folder: Path, *files: str, token: str = "", times: int = 3, **options: Any) -> list[Pulled]:
    repository = open_repository(Client(hub.url, token, timeout=5), "owner/name", "main", retries(times))
    chosen = choose(repository, files or ("model.gguf",))
    return pull(repository, chosen, folder, retries=retries(times), **options)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_file_arrives_whole_and_a_second_time_nothing_is_fetched(hub: Hub, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    (first,) = get(hub, tmp_path, progress=lambda *args: seen.append(args))
    assert first == Pulled(tmp_path / "model.gguf", len(DATA), SHA, True)
    assert first.path.read_bytes() == DATA and names(tmp_path) == ["model.gguf"]
    assert seen[0] == ("model.gguf", 0, len(DATA)) and seen[-1] == ("model.gguf", len(DATA), len(DATA))
    headers = hub.of_files()[0]
    assert headers["accept-encoding"] == "identity" and "authorization" not in headers
    assert "/resolve/c0ffee/" in hub.asked[-1][0]  # the commit, not the branch
    (again,) = get(hub, tmp_path)
    assert not again.fetched and len(hub.of_files()) == 1


def test_a_cut_connection_goes_on_where_it_was_cut(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after = [300_000, 100_000]
    get(hub, tmp_path)
    assert (tmp_path / "model.gguf").read_bytes() == DATA
    ranges = [headers.get("range") for headers in hub.of_files()]
    assert ranges == [None, "bytes=300000-", "bytes=400000-"]
    assert all("if-range" in headers for headers in hub.of_files()[1:])
    assert names(tmp_path) == ["model.gguf"] and WAITS == [1.0, 1.0]


def test_a_later_run_goes_on_too(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after = [300_000]
    with pytest.raises(DownloadError, match="cut") as caught:
        get(hub, tmp_path, times=0)
    assert "0.3 MB are kept" in caught.value.message
    assert (tmp_path / "model.gguf.part").stat().st_size == 300_000
    get(hub, tmp_path)
    assert hub.of_files()[-1]["range"] == "bytes=300000-"
    assert (tmp_path / "model.gguf").read_bytes() == DATA and names(tmp_path) == ["model.gguf"]


def test_a_server_without_ranges_sends_it_all_again(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after, hub.ignore_range = [300_000], True
    get(hub, tmp_path)
    assert (tmp_path / "model.gguf").read_bytes() == DATA


def test_a_file_that_changed_meanwhile_starts_anew(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after, hub.api = [300_000], False
    with pytest.raises(DownloadError):
        get(hub, tmp_path, times=0)
    hub.files["model.gguf"] = DATA[::-1]
    get(hub, tmp_path)
    assert (tmp_path / "model.gguf").read_bytes() == DATA[::-1]


def test_a_part_of_another_file_is_found_by_its_checksum_or_thrown_away(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "model.gguf.part").write_bytes(b"x" * 1000)
    (tmp_path / "model.gguf.part.etag").write_text('"old"')
    get(hub, tmp_path)  # If-Range does not match: all of it comes
    assert (tmp_path / "model.gguf").read_bytes() == DATA
    hub.api = False
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model.gguf.part").write_bytes(b"x" * 1000)
    get(hub, tmp_path / "other")  # nothing to check by: it isn't gone on with
    assert "range" not in hub.of_files()[-1]
    assert (tmp_path / "other" / "model.gguf").read_bytes() == DATA


def test_416_with_a_whole_part_is_the_end(hub: Hub, tmp_path: Path) -> None:
    hub.api = False
    (tmp_path / "model.gguf.part").write_bytes(DATA)
    (tmp_path / "model.gguf.part.etag").write_text(f'"{hashlib.md5(DATA).hexdigest()}"')
    (found,) = get(hub, tmp_path)
    assert found.sha256 == SHA and (tmp_path / "model.gguf").read_bytes() == DATA


def test_416_with_too_long_a_part_starts_anew(hub: Hub, tmp_path: Path) -> None:
    hub.api = False
    (tmp_path / "model.gguf.part").write_bytes(DATA + b"more")
    (tmp_path / "model.gguf.part.etag").write_text(f'"{hashlib.md5(DATA).hexdigest()}"')
    get(hub, tmp_path)
    assert (tmp_path / "model.gguf").read_bytes() == DATA


def test_another_range_than_asked_for_is_not_taken(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after, hub.wrong_range = [300_000], True
    get(hub, tmp_path)
    assert (tmp_path / "model.gguf").read_bytes() == DATA


def test_wrong_content_is_set_aside(hub: Hub, tmp_path: Path) -> None:
    hub.wrong_sha = True
    with pytest.raises(DownloadError, match="not what it should be"):
        get(hub, tmp_path)
    assert names(tmp_path) == ["model.gguf.bad"]


def test_small_files_are_checked_by_gits_name(hub: Hub, tmp_path: Path) -> None:
    hub.lfs = False
    get(hub, tmp_path)
    assert names(tmp_path) == ["model.gguf"]
    listing = hub.listing
    hub.listing = lambda: {**listing(), "siblings": [{**listing()["siblings"][0], "blobId": "1" * 40}]}  # type: ignore[method-assign]
    with pytest.raises(DownloadError, match="not what it should be"):
        get(hub, tmp_path / "other")


def test_a_sum_of_the_users_own(hub: Hub, tmp_path: Path) -> None:
    get(hub, tmp_path, sha256=SHA.upper())
    with pytest.raises(DownloadError, match="not what it should be"):
        get(hub, tmp_path / "b", sha256="0" * 64)
    with pytest.raises(UsageError, match="64"):
        get(hub, tmp_path / "c", sha256="12")


def test_a_token_stays_with_its_host(hub: Hub, tmp_path: Path) -> None:
    with serve(Hub({"model.gguf": DATA})) as other:
        hub.redirect = f"{other.url}/cdn"
        get(hub, tmp_path, token="secret")
        assert all(headers["authorization"] == "Bearer secret" for _, headers in hub.asked)
        assert len(other.asked) == 1 and "authorization" not in other.asked[0][1]
    assert (tmp_path / "model.gguf").read_bytes() == DATA


def test_a_relative_redirect_on_the_same_host_keeps_the_token(hub: Hub, tmp_path: Path) -> None:
    hub.redirect, hub.cut_after = "/cdn", [300_000]
    get(hub, tmp_path, token="secret")
    assert [path for path, _ in hub.asked][-1] == "/cdn/model.gguf"
    assert all(headers["authorization"] == "Bearer secret" for _, headers in hub.asked)
    assert hub.of_files()[-1]["range"] == "bytes=300000-"


def test_a_token_is_not_sent_in_the_open() -> None:
    assert Client("http://hub.example", "secret").token == ""
    assert Client("https://hub.example", "secret").token == "secret"
    assert origin("https://Hub.example/x") == origin("https://hub.example:443")
    assert origin("https://hub.example") != origin("http://hub.example")


def test_endless_redirects(hub: Hub, tmp_path: Path) -> None:
    hub.redirect = "/owner/name/resolve/x"
    with pytest.raises(DownloadError, match="without end"):
        get(hub, tmp_path)


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_passing_faults_are_tried_again(hub: Hub, tmp_path: Path, status: int) -> None:
    hub.statuses = [status, status]
    get(hub, tmp_path)
    assert (tmp_path / "model.gguf").read_bytes() == DATA and WAITS == [1.0, 2.0]


def test_faults_that_stay_end_it(hub: Hub, tmp_path: Path) -> None:
    hub.statuses = [503] * 9
    with pytest.raises(DownloadError, match="503"):
        get(hub, tmp_path, times=2)
    assert WAITS == [1.0, 2.0]


@pytest.mark.parametrize(
    ("refuse", "token", "message", "step"),
    [
        ((401, ""), "", "that everybody may read", "HF_TOKEN"),
        ((401, "RepoNotFound"), "x", "that everybody may read", "not accepted"),
        ((403, "GatedRepo"), "", "accepted its terms", "HF_TOKEN"),
        ((404, "RevisionNotFound"), "", "no revision 'main'", "--revision"),
        ((404, "RepoNotFound"), "", "There is no owner/name", "Check the name"),
        ((418, ""), "", "HTTP 418", "Try again"),
    ],
)
def test_refusals(hub: Hub, tmp_path: Path, refuse: tuple[int, str], token: str, message: str, step: str) -> None:
    hub.refuse = refuse
    with pytest.raises(DownloadError, match=message) as caught:
        get(hub, tmp_path, token=token)
    assert step in caught.value.next_step and not names(tmp_path)


def test_a_missing_file_names_what_there_is(hub: Hub, tmp_path: Path) -> None:
    hub.files["README.md"] = b""
    with pytest.raises(DownloadError, match=r"no file 'x\.gguf'") as caught:
        get(hub, tmp_path, "x.gguf")
    assert caught.value.next_step == "It has: model.gguf."
    hub.api = False
    with pytest.raises(DownloadError, match=r"no x\.gguf of owner/name at main"):
        get(hub, tmp_path, "x.gguf")
    with pytest.raises(UsageError, match="doesn't list files"):
        get(hub, tmp_path, "*.gguf")


def test_nobody_there(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DownloadError, match="refuses the connection"):
        open_repository(Client(f"http://127.0.0.1:{port}"), "owner/name", "main", retries(1))
    assert WAITS == [1.0]
    with pytest.raises(DownloadError, match="no address"):
        Client("hub.example")


def test_silence_ends_in_time(tmp_path: Path) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        client = Client(f"http://127.0.0.1:{mute.getsockname()[1]}", timeout=0.1)
        with pytest.raises(Transient, match="in time"):
            client.open(f"{client.endpoint}/x")


def test_an_onnx_graph_brings_its_company(hub: Hub, tmp_path: Path) -> None:
    hub.files = {
        name: name.encode()
        for name in (
            "onnx/model_q4.onnx", "onnx/model_q4.onnx_data", "onnx/model_q4f16.onnx", "onnx/model.onnx", "config.json",
            "tokenizer.json", "tokenizer_config.json", "README.md", "model.safetensors", "sub/config.json",
        )
    }  # fmt: skip
    get(hub, tmp_path, "onnx/model_q4.onnx")
    assert names(tmp_path) == [
        "config.json", "onnx/model_q4.onnx", "onnx/model_q4.onnx_data", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip


def test_patterns_and_split_files(hub: Hub, tmp_path: Path) -> None:
    hub.files = {f"m-q8_0-0000{i}-of-00003.gguf": b"%d" % i for i in (1, 2, 3)} | {"m-q4_k_m.gguf": b"4"}
    get(hub, tmp_path / "a", "*q4_k_m*")
    assert names(tmp_path / "a") == ["m-q4_k_m.gguf"]
    get(hub, tmp_path / "b", "m-q8_0-00001-of-00003.gguf")
    assert len(names(tmp_path / "b")) == 3


def test_names_that_lead_elsewhere_are_not_written(hub: Hub, tmp_path: Path) -> None:
    hub.files = {"../evil.gguf": b"x", "/evil.gguf": b"x", "a\\evil.gguf": b"x", "C:evil.gguf": b"x"}
    with pytest.raises(DownloadError):
        get(hub, tmp_path / "in", "*evil.gguf")
    hub.api = False
    with pytest.raises(UsageError):
        get(hub, tmp_path / "in", "../evil.gguf")
    with pytest.raises(UsageError):
        open_repository(Client(hub.url), "../x", "main", retries())


def test_another_file_in_the_way_stays_unless_forced(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"mine")
    with pytest.raises(UsageError, match="another file"):
        get(hub, tmp_path)
    assert (tmp_path / "model.gguf").read_bytes() == b"mine" and not hub.of_files()
    get(hub, tmp_path, force=True)
    assert (tmp_path / "model.gguf").read_bytes() == DATA


def test_a_full_disk_is_seen_before(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 1000))  # type: ignore[attr-defined]
    with pytest.raises(NoRoom, match="1 MB are needed"):
        get(hub, tmp_path)
    assert not hub.of_files()


def test_ctrl_c_keeps_what_came(hub: Hub, tmp_path: Path) -> None:
    def stop(name: str, done: int, total: int | None) -> None:
        if done > 500_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(hub, tmp_path, progress=stop)
    kept = (tmp_path / "model.gguf.part").stat().st_size
    assert kept > 500_000
    get(hub, tmp_path)
    assert hub.of_files()[-1]["range"] == f"bytes={kept}-"
    assert (tmp_path / "model.gguf").read_bytes() == DATA


def test_the_command(hub: Hub, tmp_path: Path) -> None:
    hub.files["README.md"] = b"hello"
    listed = cultev("models", "pull", "owner/name", "--endpoint", hub.url, cwd=tmp_path)
    assert listed.code == 0 and "model.gguf" in listed.out and "README" not in listed.out
    words = ("models", "pull", "owner/name")
    done = cultev(*words, "model.gguf", "--json", cwd=tmp_path, HF_ENDPOINT=hub.url, HF_TOKEN="t")
    assert done.code == 0 and SHA in done.out and done.err == ""
    assert (tmp_path / "name" / "model.gguf").read_bytes() == DATA
    assert hub.asked[-1][1]["authorization"] == "Bearer t"
    again = cultev("models", "pull", "owner/name", "*.gguf", "--endpoint", hub.url, cwd=tmp_path)
    assert "was there" in again.out
    fails(cultev("models", "pull", "owner/name", "no.gguf", "--endpoint", hub.url, cwd=tmp_path), "no file 'no.gguf'")
    hub.wrong_sha = True
    fails(cultev(*words, "model.gguf", "-o", "b", "--endpoint", hub.url, cwd=tmp_path), "set aside")
