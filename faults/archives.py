"""Archives, pickles, cards, checkpoints and downloads that want to do harm: refused, and nothing of them is run."""

import hashlib
import json
import os
import pickle
import stat
import tarfile
import threading
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import cards
import numpy as np
import test_data_download as server
import test_torch_files
from test_data_cifar import SMALL10, _Call, hostile, read, write_small
from test_data_cifar import pack as pack_archive
from test_data_folder import png, tree, write_tar, write_zip
from test_pack import resealed

import cards_jax
from cards_jax import container, data, pack, torch_files
from cards_jax.data import download
from cards_jax.data.pickles import read_batch
from faults.trial import REFUSED, SILENT, TRACEBACK, Trial

MOST = 2**27  # bytes that a refusal may allocate
OUTSIDE = (
    "../evil.png",
    "/etc/evil.png",
    "train/../../evil.png",
    "C:\\evil.png",
    "train/a/../../../x.png",
)
PAGE = b"<!DOCTYPE html><html><body>Quota exceeded</body></html>" * 50


def total(quick: bool) -> int:
    return len(list(_cases(Path("/nonexistent"), count=True)))


def trials(place: Path, quick: bool) -> Iterator[Trial]:
    for i, (fault, make) in enumerate(_cases(place)):
        at = place / str(i)
        at.mkdir()
        yield _judged(fault, make, at)


def _judged(fault: str, make: Callable[[Path], Callable], at: Path) -> Trial:
    """make(folder) prepares and gives what reads; code that is run leaves a file `ran` in the folder."""
    take = make(at)
    before = {p for p in at.parent.parent.rglob("*evil*")}
    tracemalloc.start()
    try:
        take()
    except (ValueError, OSError) as error:
        said, outcome = str(error), REFUSED if "\n" not in str(error) else TRACEBACK
    except Exception as error:
        said, outcome = repr(error), TRACEBACK
    else:
        said, outcome = "it was taken", SILENT
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    if (at / "ran").exists() or {p for p in at.parent.parent.rglob("*evil*")} - before:
        said, outcome = "its code was run, or a file was written outside", SILENT
    if peak > MOST:
        said, outcome = f"{peak:,} bytes were allocated", SILENT
    return Trial(fault, outcome, said)


def _cases(place: Path, count: bool = False) -> Iterator[tuple[str, Callable]]:
    """(fault, function that prepares it in a folder and gives what reads it)."""
    for name in OUTSIDE:
        for kind, write in (("a.tar.gz", write_tar), ("a.zip", write_zip)):
            yield (
                f"{kind[2:]} archive: a name that points outside",
                _archive(write, kind, {name: b""}),
            )
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
        yield "tar archive: a link or a device", _tar_member(kind)
    yield "zip archive: a link", _zip_link
    for name, kind in (
        ("train/a/0.png", tarfile.REGTYPE),
        ("paxheader", tarfile.XHDTYPE),
        ("longname", tarfile.GNUTYPE_LONGNAME),
    ):
        yield "tar archive: a header of a terabyte", _huge_tar(name, kind)
    for side in (11_000, 60_000):
        yield "archive: an image that unpacks to gigabytes", _bomb(side)
    for kind in ("a.tar.gz", "a.zip", "a.tar"):
        yield "archive: a web page in its place", _page(kind)
    for kind in hostile(place / "x"):
        yield "CIFAR pickle: code, or a huge or broken one", _cifar_pickle(kind)
    yield "CIFAR archive: a pickle with code", _cifar_archive
    yield "CIFAR archive: a web page in its place", _cifar_page
    for kind in ("mkdir", "eval", "legacy"):
        yield "PyTorch file: code", _torch_code(kind)
    for says in ({"shape": (1 << 40,), "strides": (0,)}, {"storage": ("FloatStorage", "../0", 6)}):
        yield "PyTorch file: sizes or names that lie", _torch_tensor(says)
    for change in _HEADERS:
        yield "card: a header that fits its hash and lies", _card_header(change)
    yield "card: lengths of exabytes", _card_front
    yield "card: a header that inflates without end", _card_bomb
    yield "card of the first format: a pickle with code", _npz_code
    yield "card or deck: a web page in its place", _card_page
    yield "run folder: a config.json with other types", _config_types
    for kind in ("page", "wrong", "long", "absent", "cut"):
        yield f"download: {_DOWNLOADS[kind]}", _download(kind)


def _load(path: Path) -> Callable:
    return lambda: data.load("folder", "train", str(path), cache_dir=str(path.parent / "cache"))


def _archive(write: Callable, kind: str, more: dict[str, bytes]) -> Callable:
    return lambda at: _load(write(at / kind, tree() | more))


def _tar_member(kind: bytes) -> Callable:
    def make(at: Path) -> Callable:
        path = write_tar(at / "a.tar", tree())
        with tarfile.open(path, "a") as tar:
            member = tarfile.TarInfo("train/ant/link.png")
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
        return _load(path)

    return make


def _zip_link(at: Path) -> Callable:
    path = write_zip(at / "a.zip", tree())
    with zipfile.ZipFile(path, "a") as archive:
        member = zipfile.ZipInfo("train/ant/link.png")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    return _load(path)


def _huge_tar(name: str, kind: bytes) -> Callable:
    def make(at: Path) -> Callable:
        member = tarfile.TarInfo(name)
        member.size, member.type = 2**40, kind
        (at / "a.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
        return _load(at / "a.tar")

    return make


def _bomb(side: int) -> Callable:
    import zlib

    header = png("red", (1, 1))
    bomb = header.replace(b"\x00\x00\x00\x01" * 2, side.to_bytes(4, "big") * 2, 1)
    crc = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    content = bomb[:29] + crc + bomb[33:]
    return _archive(write_tar, "a.tar", {"train/ant/9.png": content})


def _page(kind: str) -> Callable:
    def make(at: Path) -> Callable:
        (at / kind).write_bytes(PAGE)
        return _load(at / kind)

    return make


def _cifar_pickle(kind: str) -> Callable:
    return lambda at: lambda: read_batch(hostile(at / "ran")[kind], "some/file")


def _cifar_archive(at: Path) -> Callable:
    write_small(at, "cifar10", "python")
    inside = at / SMALL10.python.folder
    size = (inside / "data_batch_1").stat().st_size
    raw = pickle.dumps(_Call(os.system, f"touch {at / 'ran'}"))
    (inside / "data_batch_1").write_bytes(raw + bytes(size - len(raw)))
    archive = pack_archive(inside, at / "h.tar.gz")
    return lambda: read("cifar10", "train", archive)


def _cifar_page(at: Path) -> Callable:
    path = at / "cifar-10-binary.tar.gz"
    path.write_bytes(PAGE)
    return lambda: data.load("cifar10", "train", str(path), cache_dir=str(at / "cache"))


def _torch_code(kind: str) -> Callable:
    def make(at: Path) -> Callable:
        call = test_torch_files.Call(os.mkdir, str(at / "ran"))
        if kind == "eval":
            call = test_torch_files.Call(eval, f"__import__('os').mkdir({str(at / 'ran')!r})")
        content = pickle.dumps({"state_dict": call}, 2)
        if kind == "legacy":
            first = [torch_files.LEGACY, 1001, {"little_endian": True}]
            content = b"".join(pickle.dumps(x, 2) for x in first) + content
        else:
            content = test_torch_files.archive(content)
        (at / "a.pt").write_bytes(content)
        return lambda: torch_files.read(at / "a.pt")

    return make


def _torch_tensor(says: dict) -> Callable:
    def make(at: Path) -> Callable:
        content = test_torch_files.archive(
            test_torch_files.tensor(**says), **{"data/0": np.zeros(6, "<f4").tobytes()}
        )
        (at / "a.pt").write_bytes(content)
        return lambda: torch_files.read(at / "a.pt")

    return make


def _set(header: dict, field: str, value) -> None:
    header["spec"][field] = value


_HEADERS = (
    lambda header: _set(header, "width", 2**12),
    lambda header: _set(header, "name", "../../evil"),
    lambda header: _set(header, "name", "os"),
    lambda header: _set(header, "num_classes", 2**40),
    lambda header: _set(header, "image_HWC", [2**20, 2**20, 3]),
    lambda header: header.pop("params"),
)


def _card_content() -> bytes:
    return pack.encode(cards.sampled(cards.SMALL, 0.8, True), cards.SMALL, {"seed": 1}, "signs")


def _card(at: Path, content: bytes) -> Callable:
    (at / "a.card").write_bytes(content)
    return lambda: cards_jax.load(at / "a.card")


def _card_header(change: Callable) -> Callable:
    return lambda at: _card(at, resealed(_card_content(), change))


def _card_front(at: Path) -> Callable:
    content = _card_content()
    return _card(at, content[:8] + b"\2\0\0\0" + b"\xff" * 16 + content[28:])


def _card_bomb(at: Path) -> Callable:
    bomb = container.wrap({"x": "0" * 2**28}, b"")
    lengths = list(container.LENGTHS.unpack(bomb[: container.LENGTHS.size]))
    lengths[3] = 100
    front = container.LENGTHS.pack(*lengths)
    digest = hashlib.sha256(front + bomb[container.FRONT :]).digest()
    return _card(at, front + digest + bomb[container.FRONT :])


def _npz_code(at: Path) -> Callable:
    path = at / "a.card"
    with path.open("wb") as file:
        np.savez(file, header=np.array([_Call(os.system, f"touch {at / 'ran'}")], dtype=object))
    return lambda: cards_jax.load(path)


def _card_page(at: Path) -> Callable:
    return _card(at, PAGE)


def _config_types(at: Path) -> Callable:
    from cards_jax import folder

    (at / "config.json").write_text(json.dumps({"seeds": {"a": 1}, "workdir": ["/"]}))
    return lambda: folder.read_config(at)


_DOWNLOADS = {
    "page": "a web page in the place of the file",
    "wrong": "other bytes of the right length",
    "long": "more bytes than announced",
    "absent": "no such file",
    "cut": "a connection that breaks",
}


def _download(kind: str) -> Callable:
    def make(at: Path) -> Callable:
        def take():
            os.environ["no_proxy"] = "*"
            web = ThreadingHTTPServer(("127.0.0.1", 0), server.Handler)
            thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                wanted = server.remote(f"http://127.0.0.1:{web.server_port}", kind)
                download.fetch(wanted, at)
            finally:
                web.shutdown()
                thread.join()
                web.server_close()

        return take

    return make
