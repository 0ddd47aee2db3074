"""PyTorch files: read as PyTorch wrote them, written so that it reads them, refused where hostile or damaged."""

import base64
import collections
import io
import os
import pickle
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest

from cards_jax import torch_files

# {"epoch": 3, "state_dict": OrderedDict} of the ARRAYS below as torch.save of PyTorch 2.13 wrote it: zip, and legacy.
ZIPPED = """
c-p0w%Wl&^6o$uk;uHhDacOCx+`*MfsGX3cEzrtB-WZ8A2+7JOavhUcn7GH8v;qmKQq@ZAKte1LEO-Gnu!9w>*(0%F
fmrbdh#BWn+fkZAoj9Y|^Z)1b%sD5?Yg`PWfdSNY45LwGcxKgJv#yp6Y$R77II1#;ilJkJeF8|-<3wPsx@Hv^jnf74
t&R<BmCCk>fi+FnaV!(tZmlld@yeEGm2Z(d0&vp>h>1E4ZzR_(yHdpvH?d3NCQA)$J9VMtSt||ODVMNStGixlO%{L`
MLppMaXq7AL82)URL3>&-R4CB26TqZnS}#7M@DnC0fNS3IJm4Kjn%kqIHYkJvkixzRw>6IhM@us>%0%MVjFcBsgg+5
w!7lnOPNl9Q9pnLN2-FxVmRs>Z^1E**@ELu(=iO=1vueP#4r)^yY1F09j{4$iVP>KKIAFt#cAv|Olb^dJ>B#>gW+re
&gm?f?AG9X7|?Z{j^PF0Fa;NhA%o!(F`S-mnq0;p7GS#3NanS~fN6dm`AFu{Gv6~E#?bXnIwbGA-a`YI)-111_Ec4J
k*wJJAyI<&zrSr#SbFv*m_XSbg4WKL49Bk29$Gc5Dyjd0$fPO2;yV1IE6VN)FoG6404tBM<<d-6m4*L)cyc&4#*Rf9
wr>15K~s<4m0=Lw3{~aTSyh?e2SC$xW08C;kvBOv$oYDS5{*6k`Fxz*81F+g6DE>WMcgydr$zLM#!4&~e~<tu)+g3d
IF_s`*Y~sh#kMok8rjy!wZ>R$jJHP0dg#mNH?y>}^kF?3W=*Nea2G2>4JW_H-}cY{A*6H+JC%2HUr%2wrUVM`^;P9w
|NNgq@=gKzk5sojn^fRqgSPgPT~?LkKk`Vk*=#N&XXUx<++6NjTFS`R$hBNbO3P^}mq}++Ir8$`#QZzyk4QK~pOW#n
s?8Z}V#8hJ(ciJCI@o~5!i&zLUTrUG5^N$9A(Q7pldjGc^$9kDk&w?Qhq@b3R35C_!I1nVha$Zrsts0QSS!XNS}Cdx
Rz+C*BC3_6+F${MwM+4cHWk$db9X4b>;Y|$JqxDPRCuj<)F;{V8qd$POM|=8Q3{c9v(-~R@a-1D)Bi4L;lNJo$!l@G
sS*77&AER8lpPU&
"""
CHAINED = """
c-n1}OK;Oa5XZf?;}k<nc~hR{?OdXSq&7LVLa3MJQOsp8$a3vfY-D*e_PPk9O1U%wJ_84ie2jh_J^~U4#&!~9l$Cc!
-ktgVXLfd~elwFl-}irSfB1Q@)t#!ZerdQKgJQ8wMNuZ1kRlL?cf_+i7AX*PVC#62#8M{Q<7pWCDX3qViJS7%gnN1X
ndhJ#gKn`FZsw85B($i?H2jNG2?o`fUNS^FhBnoUVxd|3^N9!|AXKZ6x%4IX!Z?ti2AE001Br>`=9?_!84q9Ji3wWA
E#=lQ!0&$K@i;=oK#DAgx?UmUBsaZ`9~N;EdXlHP$h@PcCK#5*+LegN{4s}i9b)b$!k6#rO%vAG2KtPK1IKafey=~W
?IE10stG0qnACVJ;p|(gP?c&kI7c-~X0ZM>Dzn;<aNdPYW>l#i#(oYLBGio*TF)!7zP*&Y_)pGuc6x*1$g$y4WKtDn
E>|)qaD|c+xLQkGlW^UIEk?=?z>Nm|C0_B8eDgo@j@`H6R#X>oyCiE=oxvSS$~x}W^lb_ET)59v48;fVpqac7$rAst
c~1jp*n0+#5Kj>Q81bD>jeH`(a-mbT{e9W?6$O)3xvHx=p{<hDdACfs9H+a=si8CnncIbrHn;lRw&u1OH{Hc$4?mn!
oImy!9P$@88prq
"""
ARRAYS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a.bias": np.array([1.5, -2], np.float32),  # bfloat16 in the file
    "t": np.arange(6).reshape(2, 3).T,
    "on": np.array(True),
}


def unpacked(text: str) -> bytes:
    return zlib.decompress(base64.b85decode("".join(text.split())))


def equal(found: dict, expected: dict = ARRAYS) -> None:
    assert list(found) == list(expected)
    for key, x in expected.items():
        assert found[key].dtype == x.dtype and found[key].shape == x.shape, key
        np.testing.assert_array_equal(found[key], x)


@pytest.mark.parametrize("text", [ZIPPED, CHAINED])
def test_files_of_pytorch(tmp_path, text):
    path = tmp_path / "checkpoint.pth.tar"
    path.write_bytes(unpacked(text))
    found = torch_files.read(path)
    equal(found)
    assert not any(x.flags.writeable for x in found.values())


WRITTEN = {
    **ARRAYS,
    "scalar": np.float32(2.5),
    "double": np.linspace(0, 1, 5),
    "half": np.ones((2, 1, 2), np.float16),
    "bytes": np.arange(300, dtype=np.uint8),
    "big": np.arange(4, dtype=">i2"),
    "empty": np.zeros((0, 3), np.float32),
    "odd key \u00e9\n": np.zeros(1, np.int32),
}


def test_what_is_written_is_read(tmp_path):
    torch_files.write(tmp_path / "a.pt", WRITTEN)
    torch_files.write(tmp_path / "b.pt", WRITTEN)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()
    found = torch_files.read(tmp_path / "a.pt")
    equal(found, {k: np.asarray(x, x.dtype.newbyteorder("=")) for k, x in WRITTEN.items()})
    with pytest.raises(ValueError, match="phase: got dtype complex64"):
        torch_files.write(tmp_path / "c.pt", {"phase": np.zeros(2, np.complex64)})
    assert not (tmp_path / "c.pt").exists()


@pytest.mark.slow
def test_pytorch_reads_what_is_written(tmp_path):
    torch = pytest.importorskip("torch")
    torch_files.write(tmp_path / "a.pt", WRITTEN)
    found = torch.load(tmp_path / "a.pt", weights_only=True)
    assert type(found) is collections.OrderedDict
    equal({k: x.numpy() for k, x in found.items()}, torch_files.read(tmp_path / "a.pt"))


@pytest.mark.slow
@pytest.mark.parametrize("zipped", [True, False])
def test_reads_what_pytorch_writes(tmp_path, zipped):
    """A training checkpoint: a module's state_dict, its optimizer's, tied weights, and a list of numbers."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 4, 1)
    network = torch.nn.Sequential(*layers, layers[2])
    network[0].to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    network(torch.zeros(2, 3, 5, 5)).sum().backward()
    optimizer.step()
    whole = {
        "epoch": 7,
        "model_state_dict": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": [0.5, None, "x", {"lr": 1e-3}],
        "best": torch.tensor(94.5),
    }
    path = tmp_path / "checkpoint.pth"
    torch.save(whole, path, _use_new_zipfile_serialization=zipped)
    equal(torch_files.read(path), {k: x.numpy() for k, x in network.state_dict().items()})
    torch.save(dict(network.named_parameters()), path, _use_new_zipfile_serialization=zipped)
    found = torch_files.read(path)
    equal(found, {k: x.detach().numpy() for k, x in network.named_parameters()})


# --- what is refused ---


def refused(path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as raised:
        torch_files.read(path)
    assert str(raised.value).startswith(f"{path}: ") and "\n" not in str(raised.value)


def archive(data: bytes, compression=zipfile.ZIP_STORED, **members: bytes) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", compression) as file:
        file.writestr("archive/data.pkl", data)
        for name, raw in members.items():
            file.writestr(f"archive/{name.replace('_', '/')}", raw)
    return whole.getvalue()


class Call:
    """Pickles as a call of anything."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_nothing_that_a_file_names_is_run(tmp_path):
    target, path = tmp_path / "made", tmp_path / "evil.pt"
    calls = {
        "posix.mkdir|nt.mkdir": Call(os.mkdir, str(target)),
        "builtins.eval|__builtin__.eval": Call(eval, f"__import__('os').mkdir({str(target)!r})"),
        "builtins.getattr|__builtin__.getattr": Call(getattr, os, "mkdir"),
    }
    for name, call in calls.items():
        try:
            data = pickle.dumps({"state_dict": call}, 2)
        except TypeError:  # modules do not pickle, the name comes first anyway
            data = b"\x80\x02c__builtin__\ngetattr\n."
        refused(path, archive(data), f"it names ({name}), and only tensors are read")
        first = [torch_files.LEGACY, 1001, {"little_endian": True}]
        chain = b"".join(pickle.dumps(x, 2) for x in first) + data
        refused(path, chain, f"it names ({name}), and only tensors are read")
    assert not target.exists()


def tensor(storage=("FloatStorage", "0", 6), offset=0, shape=(2, 3), strides=(3, 1)) -> bytes:
    """The pickle of {"w": a tensor} that says these things of itself."""
    kind, key, numel = storage
    value, name = torch_files._value, torch_files._global
    pid = pickle.MARK + value("storage") + name("torch", kind) + value(key) + value("cpu")
    pid += value(numel) + pickle.TUPLE + pickle.BINPERSID
    arguments = pid + value(offset) + value(shape) + value(strides) + value(False) + value(None)
    rebuild = name("torch._utils", "_rebuild_tensor_v2") + pickle.MARK + arguments
    call = rebuild + pickle.TUPLE + pickle.REDUCE
    return b"\x80\x02" + pickle.EMPTY_DICT + value("w") + call + pickle.SETITEM + pickle.STOP


SIX = np.arange(6, dtype=np.float32).tobytes()


@pytest.mark.parametrize(
    ("says", "message"),
    [
        ({"shape": (2, 4), "strides": (4, 1)}, r"shape of \(2, 4\) does not fit in 6 numbers"),
        ({"offset": 1}, "does not fit"),
        ({"shape": (1 << 40,), "strides": (0,)}, "does not fit"),
        ({"shape": (1 << 62, 4), "strides": (0, 0)}, "does not fit"),
        ({"shape": (2, 3), "strides": (1 << 62, 1)}, "does not fit"),
        ({"shape": (2,), "strides": (1, 1)}, r"a tensor of shape \(2,\) and strides \(1, 1\)"),
        ({"shape": (-2, -3)}, r"a tensor of shape \(-2, -3\)"),
        ({"offset": -1}, "a tensor of shape"),
        ({"shape": (2.0, 3)}, "a tensor of shape"),
        ({"shape": (1,) * 65, "strides": (1,) * 65}, "a tensor of shape"),
        ({"storage": ("FloatStorage", "0", 5)}, "storage 0 has 24 bytes, expected 20"),
        ({"storage": ("FloatStorage", "0", 1 << 60)}, "storage 0 has 24 bytes, expected"),
        ({"storage": ("FloatStorage", "0", -6)}, "a storage '0' of -6 numbers"),
        ({"storage": ("DoubleStorage", "0", 6)}, "storage 0 has 24 bytes, expected 48"),
        ({"storage": ("QInt8Storage", "0", 24)}, r"it names torch\.QInt8Storage"),
        ({"storage": ("FloatStorage", "../0", 6)}, "no item named 'archive/data/../0'"),
        ({"storage": ("FloatStorage", 0, 6)}, "a storage 0 of 6 numbers"),
    ],
)
def test_tensors_that_contradict_themselves(tmp_path, says, message):
    path = tmp_path / "bad.pt"
    path.write_bytes(archive(tensor(), data_0=SIX))
    np.testing.assert_array_equal(torch_files.read(path)["w"], [[0, 1, 2], [3, 4, 5]])
    tracemalloc.start()
    refused(path, archive(tensor(**says), data_0=SIX), message)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_overlapping_views_take_no_memory_of_their_own(tmp_path):
    """Tied weights are allowed; a view of strides 0 as large as its storage is what it says."""
    path = tmp_path / "tied.pt"
    path.write_bytes(archive(tensor(shape=(6,), strides=(0,)), data_0=SIX))
    np.testing.assert_array_equal(torch_files.read(path)["w"], np.zeros(6))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><title>Google Drive - Quota exceeded</title>", "it is a web page"),
        (b"\x93NUMPY\x01\x00v\x00", r"it begins with b'.x93NUMPY"),
        (pickle.dumps({"w": [1.0]}, 2), "it begins with"),
        (archive(pickle.dumps({"a": 1, "b": {}}, 2)), "no state_dict in it: its keys are a, b"),
        (archive(pickle.dumps([1, 2], 2)), "it holds a list instead of a state_dict"),
        (archive(b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"."), "not the pickle of a"),
        (archive(b"\x80\x02]q\x00" + b"h\x00h\x00\x86q\x00" * 99 + b"."), "it holds a tuple"),
        (archive(tensor(), zipfile.ZIP_DEFLATED, data_0=SIX), "its parts are compressed"),
        (archive(tensor(), data_0=SIX, byteorder=b"big"), "from a big-endian machine"),
        (archive(tensor()), "no item named 'archive/data/0'"),
        (archive(b""), "not a readable PyTorch checkpoint: "),
        (archive(tensor(), b_data="x").replace(b"data.pkl", b"dota.pkl"), "0 of its parts are"),
        (zlib.compress(b"x"), "it begins with"),
    ],
)
def test_files_that_are_something_else(tmp_path, content, message):
    refused(tmp_path / "bad.pt", content, message)


def test_an_absent_file_is_an_os_error(tmp_path):
    with pytest.raises(OSError):
        torch_files.read(tmp_path / "absent.pt")


def test_a_numbers_damage_is_seen(tmp_path):
    content = archive(tensor(), data_0=SIX)
    at = content.index(SIX)
    refused(tmp_path / "bad.pt", content[:at] + b"\x01" + content[at + 1 :], "Bad CRC-32")


def test_legacy_tensors_span_their_storages(tmp_path):
    """Those files have no checksums, so that a changed shape must not pass for a part of a storage."""
    head = b"".join(pickle.dumps(x, 2) for x in [torch_files.LEGACY, 1001, {"little_endian": True}])
    tail = pickle.dumps(["0"], 2) + struct.pack("<q", 6) + SIX
    path = tmp_path / "old.pt"
    path.write_bytes(head + tensor() + tail)
    assert torch_files.read(path)["w"].shape == (2, 3)
    refused(path, head + tensor(shape=(2, 2)) + tail, r"w of shape \(2, 2\) is not all of its")
    refused(path, head + tensor(shape=(3, 2)) + tail, "is not all of its storage")
    refused(path, head + tensor() + tail[:-1], "it is cut short")
    refused(path, head + tensor() + tail + b"x", "it goes on after its end")
    refused(path, head + tensor() + tail.replace(struct.pack("<q", 6), b"\xff" * 8), "another size")


def outcome(path, content: bytes) -> dict | None:
    """What is read, or None where it is refused as it should be: any other exception fails the test."""
    path.write_bytes(content)
    try:
        return torch_files.read(path)
    except ValueError as error:
        assert str(path) in str(error)
        return None


def changes(content: bytes, step: int):
    """Bytes changed in a random bit, bytes replaced, and beginnings; everywhere if step is 1."""
    rng = np.random.default_rng(0)
    for at in range(0, len(content), step):
        for value in (content[at] ^ (1 << int(rng.integers(8))), int(rng.integers(256))):
            yield content[:at] + bytes([value]) + content[at + 1 :]
        yield content[:at]


everywhere = pytest.mark.parametrize("step", [23, pytest.param(1, marks=pytest.mark.slow)])


@everywhere
def test_no_damage_changes_an_archive_unseen(tmp_path, step):
    path, survived = tmp_path / "fuzzed.pt", 0
    for damaged in changes(unpacked(ZIPPED), step):
        found = outcome(path, damaged)
        if found is not None:
            equal(found)
            survived += 1
    assert survived  # dates and paddings: a test in which everything is refused shows little


@everywhere
def test_no_damage_changes_a_shape_of_a_legacy_file(tmp_path, step):
    path, survived = tmp_path / "fuzzed.pt", 0
    shapes = sorted(x.shape for x in ARRAYS.values())
    for damaged in changes(unpacked(CHAINED), step):
        found = outcome(path, damaged)
        if found is not None:
            assert sorted(x.shape for x in found.values()) == shapes
            survived += 1
    assert survived  # numbers and names
