"""Files survive crashes whole, and sealed folders notice every change."""

import contextlib
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cards_jax import files

_WRITE_FOREVER = """
import itertools, sys
from cards_jax.files import write_atomically
for i in itertools.count():
    write_atomically(sys.argv[1], bytes([i % 256]) * 300_000)
    print(i, flush=True)
"""


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_write_replaces_the_content_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "results.json"
    files.write_atomically(path, "old\n")
    files.write_atomically(str(path), "größer\n")
    assert path.read_bytes() == "größer\n".encode()
    files.write_atomically(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert _names(tmp_path) == ["results.json"]


def test_where_a_file_shall_go_is_looked_at_before_the_work(tmp_path):
    files.check_place(tmp_path / "new" / "a.csv")
    assert (tmp_path / "new").is_dir() and not (tmp_path / "new" / "a.csv").exists()
    with pytest.raises(IsADirectoryError, match="is a folder"):
        files.check_place(tmp_path / "new")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        files.check_place(tmp_path / "file" / "a.csv")


def test_a_killed_writer_leaves_a_whole_file(tmp_path):
    path, chance = tmp_path / "file", random.Random(0)
    for _ in range(10):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITE_FOREVER, path], stdout=subprocess.PIPE
        )
        writer.stdout.readline()
        time.sleep(chance.uniform(0, 0.05))
        writer.send_signal(signal.SIGKILL)
        written = writer.communicate()[0].split()
        content = path.read_bytes()
        assert len(content) == 300_000 and len(set(content)) == 1
        assert not written or content[0] in (int(written[-1]) % 256, int(written[-1]) % 256 + 1)


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "file"
    files.write_atomically(path, b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            files.write_atomically(path, bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"old"
    assert _names(tmp_path) == ["file"]


def test_sha256_is_that_of_the_standard(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files.sha256(tmp_path / "abc") == expected
    content = random.Random(0).randbytes(3_000_000)
    (tmp_path / "long").write_bytes(content)
    assert files.sha256(tmp_path / "long") == hashlib.sha256(content).hexdigest()


@pytest.fixture
def sealed(tmp_path) -> Path:
    folder = tmp_path / "7"
    (folder / "inner" / "none").mkdir(parents=True)
    (folder / "a").write_bytes(b"\x00\x01\x02 some numbers")
    (folder / "inner" / "b").write_bytes(b"more")
    (folder / "inner" / "empty").write_bytes(b"")
    files.seal(folder, {"step": 7, "pair": (1, 2.5)})
    return folder


def test_a_sealed_folder_gives_its_note_back(sealed):
    assert files.inspect(sealed) == {"step": 7, "pair": [1, 2.5]}
    files.amend(sealed, {"step": 8})
    assert files.inspect(sealed) == {"step": 8}
    (sealed / "stranger").write_bytes(b"not vouched for, not needed")
    assert files.inspect(sealed) == {"step": 8}


def test_flipped_bits_are_noticed(sealed):
    paths = [path for path in sealed.rglob("*") if path.is_file() and path.stat().st_size]
    assert len(paths) == 3
    for path in paths:
        whole = path.read_bytes()
        for bit in range(0, 8 * len(whole), 1 if len(whole) < 100 else 7):
            flipped = bytearray(whole)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            with pytest.raises(files.Damaged, match=path.relative_to(sealed).as_posix()):
                files.inspect(sealed)
        path.write_bytes(whole)
    files.inspect(sealed)


@pytest.mark.parametrize("name", ["a", "inner/b", "inner/empty", "manifest.json"])
@pytest.mark.parametrize("hashes", [True, False])
def test_files_shortened_lengthened_or_gone_are_noticed_without_hashing_too(sealed, name, hashes):
    path = sealed / name
    whole = path.read_bytes()
    for changed in [whole[: n * len(whole) // 10] for n in range(10)] + [whole + b"x"]:
        if changed != whole:
            path.write_bytes(changed)
            with pytest.raises(files.Damaged, match=name):
                files.inspect(sealed, hashes)
    path.unlink()
    with pytest.raises(files.Damaged, match=f"{name} is missing"):
        files.inspect(sealed, hashes)
    path.mkdir()
    with pytest.raises(files.Damaged, match=name):
        files.inspect(sealed, hashes)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"null", b"[1, 2", b"\xff\xfe", b'{"sha256": "0"}', b"[" * 5000]
)
def test_a_foreign_manifest_is_damage(sealed, content):
    (sealed / "manifest.json").write_bytes(content)
    with pytest.raises(files.Damaged, match="manifest.json is not as it was written"):
        files.inspect(sealed)


@contextlib.contextmanager
def _without_permission(path: Path) -> Iterator[None]:
    """Close a file to this process; root becomes nobody, because modes do not bind root."""
    path.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        path.chmod(0o644)


@pytest.mark.parametrize("name", ["a", "manifest.json"])
def test_a_missing_permission_is_no_damage(sealed, name):
    with tempfile.TemporaryDirectory() as open_to_all:
        os.chmod(open_to_all, 0o755)
        folder = Path(shutil.copytree(sealed, Path(open_to_all) / "7"))
        with _without_permission(folder / name), pytest.raises(PermissionError, match=name):
            files.inspect(folder)
        files.inspect(folder)


def test_content_that_vouches_for_itself():
    whole = files.vouched({"a": (1, 2), "b": {"c": None}})
    read = json.loads(json.dumps(whole))
    assert files.checked(read) == {"a": [1, 2], "b": {"c": None}}
    assert files.checked({"a": 1}) == {"a": 1}  # by hand, without a hash
    read["a"][0] = 3
    with pytest.raises(files.Damaged, match="not as it was written"):
        files.checked(read)
