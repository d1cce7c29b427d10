"""Downloads from a real server on loopback that can break off, ignore ranges, and send something else."""

import hashlib
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from pipeline import downloads
from pipeline.downloads import DownloadError, fetch

CONTENT = np.random.default_rng(4).bytes(3_000_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


@dataclass
class Server:
    """What the server does, and what it was asked."""

    address: str = ""
    content: bytes = CONTENT
    breaks_after: int | None = None
    knows_ranges: bool = True
    status: int = 200
    asked: list[str | None] = field(default_factory=list)


@pytest.fixture
def server():
    told = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = self.headers.get("Range")
            told.asked.append(wanted)
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and told.knows_ranges else 0
            if told.status != 200:
                self.send_error(told.status)
                return
            if start >= len(told.content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(told.content) - start))
            self.end_headers()
            end = len(told.content) if told.breaks_after is None else start + told.breaks_after
            self.wfile.write(told.content[start:end])
            self.wfile.flush()

        def log_message(self, *words):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        told.address = f"http://127.0.0.1:{running.server_port}/file.zip"
        yield told
        running.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "file.zip"


def quiet(name, here, total):
    pass


def test_a_file_comes_whole_and_its_progress_is_told(server, target):
    seen = []
    assert fetch(server.address, target, MD5, lambda *told: seen.append(told))
    assert target.read_bytes() == CONTENT
    assert [name for name, _, _ in seen] == ["file.zip"] * len(seen)
    counts = [here for _, here, _ in seen]
    assert counts == sorted(counts)
    assert seen[-1] == ("file.zip", len(CONTENT), len(CONTENT))
    assert list(target.parent.iterdir()) == [target]


def test_what_is_there_and_whole_is_not_asked_for(server, target):
    target.write_bytes(CONTENT)
    assert not fetch(server.address, target, MD5, quiet)
    assert server.asked == []


def test_what_broke_off_is_continued_where_it_was(server, target):
    server.breaks_after = 1_200_000
    with pytest.raises(DownloadError, match=r"broke off after 1\d{6} .*run it again to continue"):
        fetch(server.address, target, MD5, quiet)
    assert not target.exists()
    here = target.with_name("file.zip.part").stat().st_size
    assert 0 < here <= 1_200_000
    server.breaks_after = None
    seen = []
    fetch(server.address, target, MD5, lambda *told: seen.append(told))
    assert server.asked == [None, f"bytes={here}-"]
    assert target.read_bytes() == CONTENT
    assert seen[0][1] > here
    assert seen[-1][1:] == (len(CONTENT), len(CONTENT))


def test_a_server_without_ranges_sends_all_again(server, target):
    target.with_name("file.zip.part").write_bytes(CONTENT[:500_000])
    server.knows_ranges = False
    fetch(server.address, target, MD5, quiet)
    assert target.read_bytes() == CONTENT


def test_a_part_that_was_whole_needs_no_server(server, target):
    target.with_name("file.zip.part").write_bytes(CONTENT)
    fetch(server.address, target, MD5, quiet)
    assert (target.read_bytes(), server.asked) == (CONTENT, [])


@pytest.mark.parametrize("stale", [b"", b"x" * 400_000, b"x" * 4_000_000], ids=["none", "wrong", "wrong and longer"])
def test_another_content_never_takes_the_files_place_and_is_fetched_anew(stale, server, target):
    target.write_bytes(b"an old and damaged file")
    if stale:
        target.with_name("file.zip.part").write_bytes(stale)
    else:
        server.content = b"a page of a proxy"
    with pytest.raises(DownloadError, match=f"instead of {MD5}"):
        fetch(server.address, target, MD5, quiet)
    assert target.read_bytes() == b"an old and damaged file"
    server.content = CONTENT
    fetch(server.address, target, MD5, quiet)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_a_servers_refusal_is_passed_on(status, server, target):
    server.status = status
    with pytest.raises(DownloadError, match=f"file.zip: {status} "):
        fetch(server.address, target, MD5, quiet)
    assert not target.exists()


def test_no_server_at_all(target):
    with pytest.raises(DownloadError, match=r"broke off after 0 bytes .*refused"):
        fetch("http://127.0.0.1:9/file.zip", target, MD5, quiet)


def test_a_server_that_falls_silent_is_given_up(target, monkeypatch):
    monkeypatch.setattr(downloads, "SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/file.zip"
        with pytest.raises(DownloadError, match=r"broke off after 0 bytes .*timed out"):
            fetch(address, target, MD5, quiet)
