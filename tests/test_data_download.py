"""Downloads from a server on this machine: good, interrupted, wrong, a web page, nobody there."""

import dataclasses
import gzip
import hashlib
import io
import os
import random
import socket
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from cards_jax.config import ConfigError
from cards_jax.data import cifar, cifar10
from cards_jax.data.download import Remote, fetch

NAME = "images.tar.gz"
GOOD = gzip.compress(random.Random(0).randbytes(700_000))
PAGE = b"<!DOCTYPE html><html>Too many requests</html>"


class Handler(BaseHTTPRequestHandler):
    """Answers by the first part of the path; counts what it is asked for."""

    asked: list[tuple[str, str | None]] = []
    served: dict[str, bytes] = {}

    def do_GET(self):
        kind, wanted = self.path.split("/")[1], self.headers.get("Range")
        self.asked.append((kind, wanted))
        if kind == "slow":
            time.sleep(1)
        if kind == "absent":
            return self.send_error(404)
        bad = {"page": PAGE, "wrong": GOOD[:-9] + b"123456789", "long": GOOD + b"more"}
        body = (bad | self.served).get(kind, GOOD)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        partial = bool(wanted) and kind != "whole"
        self.send_response(206 if partial else 200)
        if partial:
            shift = 5 if kind == "shifted" else 0
            self.send_header("Content-Range", f"bytes {start + shift}-{len(body) - 1}/{len(body)}")
            body = body[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if kind == "cut" else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    Handler.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False  # joined below, so that no socket is left open
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def remote(server: str, *kinds: str) -> Remote:
    urls = tuple(f"{server}/{kind}/{NAME}" for kind in kinds)
    return Remote(NAME, urls, len(GOOD), hashlib.sha256(GOOD).hexdigest())


def nobody() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def test_good_file_is_fetched_once(server, tmp_path):
    folder = tmp_path / "new" / "folder"
    path = fetch(remote(server, "good"), folder)
    assert path == folder / NAME and path.read_bytes() == GOOD
    assert fetch(remote(server, "good"), folder) == path
    assert Handler.asked == [("good", None)]
    assert os.listdir(folder) == [NAME]


def test_interrupted_download_is_continued(server, tmp_path):
    with pytest.raises(ConfigError, match="it ended after"):
        fetch(remote(server, "cut"), tmp_path)
    assert os.listdir(tmp_path) == [f"{NAME}.part"]
    kept = (tmp_path / f"{NAME}.part").stat().st_size
    assert 0 < kept < len(GOOD)
    assert fetch(remote(server, "good"), tmp_path).read_bytes() == GOOD
    assert Handler.asked[-1] == ("good", f"bytes={kept}-")


def test_complete_remains_need_no_server(server, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(GOOD)
    assert fetch(remote(server, "good"), tmp_path).read_bytes() == GOOD
    assert not Handler.asked


def test_server_without_ranges_starts_over(server, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(b"\x1f\x8b" + bytes(1000))
    assert fetch(remote(server, "whole"), tmp_path).read_bytes() == GOOD


def test_wrong_start_of_a_range_is_not_appended(server, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(GOOD[:1000])
    with pytest.raises(ConfigError, match="it sent the range"):
        fetch(remote(server, "shifted"), tmp_path)


def test_damaged_remains_do_not_end_in_a_damaged_file(server, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(b"\x1f\x8b" + bytes(1000))
    path = fetch(remote(server, "good", "good"), tmp_path)
    assert path.read_bytes() == GOOD


def test_remains_that_are_too_long_start_over(server, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(GOOD + b"more")
    assert fetch(remote(server, "good", "good"), tmp_path).read_bytes() == GOOD


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("wrong", "its SHA-256 is [0-9a-f]{64} instead of"),
        ("page", "it sent a web page"),
        ("long", f"it sent more than {len(GOOD):,} bytes"),
        ("absent", "404"),
    ],
)
def test_bad_answers_leave_nothing_behind_and_the_next_address_is_tried(
    server, tmp_path, kind, reason
):
    with pytest.raises(ConfigError, match=reason) as caught:
        fetch(remote(server, kind), tmp_path)
    message = str(caught.value)
    assert "\n" not in message and f"{len(GOOD):,} bytes" in message
    assert f"{server}/{kind}/{NAME} and put it into {tmp_path}" in message
    assert not (tmp_path / NAME).exists()
    assert fetch(remote(server, kind, "good"), tmp_path).read_bytes() == GOOD


def test_nobody_there(server, tmp_path):
    with pytest.raises(ConfigError, match="refused"):
        fetch(remote(nobody(), "good"), tmp_path)
    both = Remote(NAME, (f"{nobody()}/x", f"{server}/good/x"), len(GOOD), remote("").sha256)
    assert fetch(both, tmp_path).read_bytes() == GOOD


def test_existing_file_of_another_size_is_replaced(server, tmp_path):
    (tmp_path / NAME).write_bytes(b"half")
    assert fetch(remote(server, "good"), tmp_path).read_bytes() == GOOD


def test_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="data.cache_dir: cannot write images.tar.gz"):
        fetch(remote(server, "good"), tmp_path / "file")


def test_processes_that_download_at_once_share_one_download(server, tmp_path):
    code = f"""
        from pathlib import Path
        from cards_jax.data.download import Remote, fetch
        urls = ("{server}/slow/{NAME}",)
        fetch(Remote("{NAME}", urls, {len(GOOD)}, "{remote("").sha256}"), Path("{tmp_path}"))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    root = Path(cifar.__file__).parents[2]
    running = [subprocess.Popen(command, cwd=root) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert Handler.asked == [("slow", None)]
    assert (tmp_path / NAME).read_bytes() == GOOD


def test_cifar_is_downloaded_into_the_cache_only_if_allowed(server, tmp_path):
    form = dataclasses.replace(cifar10.LAYOUT.binary, remote=remote(server, "good"))
    layout = dataclasses.replace(cifar10.LAYOUT, binary=form)
    with pytest.raises(ConfigError, match=f"get {NAME}.*data.download=True"):
        cifar.read(layout, "train", None, False, str(tmp_path))
    assert not Handler.asked
    with pytest.raises(ConfigError, match="damaged"):  # the stand-in is no tar, but it was fetched
        cifar.read(layout, "train", None, True, str(tmp_path))
    assert (tmp_path / "cifar10" / NAME).read_bytes() == GOOD


@pytest.mark.parametrize("left", [PAGE, GOOD[:1000], bytes(len(GOOD))])
def test_a_damaged_archive_in_the_cache_is_fetched_anew_if_allowed(server, tmp_path, left):
    """Whatever lies there: a page, a part, or as many bytes as the archive has."""
    batch = np.zeros((3, 3073), np.uint8)
    batch[:, 0] = 1, 2, 3
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as tar:
        member = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
        member.size = batch.nbytes
        tar.addfile(member, io.BytesIO(batch.tobytes()))
    published = whole.getvalue()
    Handler.served["archive"] = published
    sha = hashlib.sha256(published).hexdigest()
    left = left if len(left) != len(GOOD) else bytes(len(published))
    given = Remote(NAME, (f"{server}/archive/{NAME}",), len(published), sha)
    form = dataclasses.replace(cifar10.LAYOUT.binary, remote=given)
    batches = {"train": {"data_batch_1": 3}}
    layout = dataclasses.replace(cifar10.LAYOUT, binary=form, batches=batches)
    place = tmp_path / "cifar10" / NAME
    place.parent.mkdir()
    place.write_bytes(left)
    with pytest.raises(ConfigError, match=f"{NAME} (is|starts)"):
        cifar.read(layout, "train", None, False, str(tmp_path))
    absent = dataclasses.replace(given, urls=(f"{server}/absent/{NAME}",))
    offline = dataclasses.replace(layout, binary=dataclasses.replace(form, remote=absent))
    with pytest.raises(ConfigError, match=f"{NAME} (is|starts).*cannot fetch.*404"):
        cifar.read(offline, "train", None, True, str(tmp_path))
    assert place.read_bytes() == left
    with pytest.raises(
        ConfigError, match=f"{NAME} (is|starts)"
    ):  # a place that was named is never written to
        cifar.read(layout, "train", str(place), True, str(tmp_path))
    assert cifar.read(layout, "train", None, True, str(tmp_path))[1].tolist() == [1, 2, 3]
    assert place.read_bytes() == published
