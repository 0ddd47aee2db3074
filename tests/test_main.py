"""The command line: what it refuses, in one line and before anything is written; what it prints; whole small runs."""

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cards_jax import config, data, main, validation
from cards_jax.config import ConfigError

QUICK = "--config=configs/quickstart.py"
TINY = (  # a run of a few seconds
    *(QUICK, "--config.model.name=conv2", "--config.model.width=2", "--config.data.image_size=8"),
    *("--config.epochs=1", "--config.batch_size=32", "--config.data.subset=64"),
    *("--config.seeds=0,1", "--config.baseline=None", "--config.compute.devices=1"),
)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Every test begins in an empty folder, and leaves JAX as it was."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))
    before = jax.config.jax_compilation_cache_dir
    yield
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture
def cards(capsys):
    """Runs a command line in this process: (exit code, stdout, stderr)."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main.main(["cards_jax", *arguments])
        return code, *capsys.readouterr()

    return run


def spawn(*arguments: str, program=("-m", "cards_jax.main"), **environment: str):
    """Runs a command line in a process of its own."""
    command = [sys.executable, *program, *arguments]
    given = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=given)


def tree(folder: str | Path = ".") -> dict[str, tuple[int, int]]:
    """{path: (size, time)} of all files and folders below a folder."""
    return {
        str(p.relative_to(folder)): (p.stat().st_size, p.stat().st_mtime_ns)
        for p in Path(folder).rglob("*")
    }


def refused(result: tuple[int, str, str], message: str) -> None:
    """Assert exit code 2, nothing on stdout, and exactly the message on stderr."""
    code, out, err = result
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and err.startswith(f"cards_jax: {message}"), err


def write(name: str, text: str) -> str:
    Path(name).write_text(text)
    return f"--config={name}"


# --- what names a config


def test_no_config(cards):
    refused(cards(), "config: none given; try --config=configs/quickstart.py or --help")
    assert not tree()


def test_help(cards):
    code, out, _ = cards("--help")
    assert code == 0
    for flag in ("--config", "--workdir", "dry_run", "print_config", "--resume"):
        assert flag in out


@pytest.mark.parametrize(
    "name", ["nope.py", "configs/nope.py", "elsewhere/quickstart.py", "", "configs"]
)
def test_a_missing_file(cards, name):
    names = "bp_conv.py, bp_resnet18.py, dense_conv.py"
    refused(
        cards(f"--config={name}"), f"config={name!r}: no such file; the shipped ones are {names}"
    )


GET = "from cards_jax.config import defaults\ndef get_config(*a):\n    c = defaults()\n    "
BAD_FILES = {
    "def get_config(): raise RuntimeError('a\\nb')": "RuntimeError: a b",
    "def get_config(): import sys; sys.exit(3)": "SystemExit: 3",
    "raise KeyError('a')": "KeyError: 'a'",
    "import nothing_of_that_name": "ModuleNotFoundError: No module named 'nothing_of_that_name'",
    "def get_config(:": "SyntaxError: invalid syntax",
    "x = 1": "it defines no get_config()",
    "def get_config(): return {'epochs': 1}": "get_config() must return a ConfigDict, got dict",
    "def get_config(): pass": "get_config() must return a ConfigDict, got NoneType",
    "def get_config(x, y): return x": "TypeError: get_config() missing 2 required positional",
    GET + "c.epoch = 1\n    return c": "'epoch' is no field; the nearest is 'epochs'",
    GET + "c.model.depth = 1\n    return c": "'model.depth' is no field; the nearest is",
    GET + "c.epochs = 'x'\n    return c": "TypeError: Could not override field 'epochs'",
    GET
    + "c.seeds = 3\n    return c": "seeds: must be one value or several, separated by commas, as (0.5,)",
    GET + "c.epochs = None\n    return c": "epochs=None: must be a whole number",
    GET + "c.data = None\n    return c": "'data' is no field",
}


@pytest.mark.parametrize(("text", "message"), BAD_FILES.items(), ids=range(len(BAD_FILES)))
def test_a_config_file_that_fails(cards, text, message):
    refused(cards(write("bad.py", text)), f"config='bad.py': {message}")
    assert list(tree()) == ["bad.py"]


@pytest.mark.parametrize(
    "given, said",
    [
        ("--sparsity=0.5", "--sparsity is no flag; fields are set as --config.sparsity=VALUE"),
        ("--config.lr=0.5", "'lr' is no field; the nearest is 'learning_rate'"),
    ],
)
def test_what_others_call_a_field(cards, given, said):
    refused(cards("--config=configs/quickstart.py", given), said)


def test_a_config_file_that_is_no_text(cards):
    Path("bad.py").write_bytes(b"\xff\x00")
    refused(cards("--config=bad.py"), "config='bad.py': ")


def test_arguments_of_a_config_file(cards):
    refused(
        cards(QUICK + ":x"), "config='configs/quickstart.py:x': TypeError: get_config() takes 0"
    )
    given = write("args.py", GET + "c.name = a[0] if a else 'none'\n    return c")
    for argument, name in (("", "none"), (":a", "a"), (":a-b", "a-b")):
        code, out, _ = cards(given + argument, "--print_config")
        assert code == 0 and json.loads(out)["name"] == name


def test_ways_to_give_a_config(cards):
    path = str(main.find_config("quickstart.py"))
    assert Path(path).is_file()
    for form in (
        [QUICK],
        ["--config", "quickstart.py"],
        [f"-config={path}"],
        ["--config=x", QUICK],
    ):
        assert cards(*form, "--print_config")[0] == 0
    assert cards("--config.epochs=3", QUICK, "--print_config")[0] == 0


def test_a_file_of_the_users_comes_before_a_shipped_one(cards):
    Path("configs").mkdir()
    write("configs/quickstart.py", GET + "c.name = 'mine'\n    return c")
    assert json.loads(cards(QUICK, "--print_config")[1])["name"] == "mine"


# --- what a command line may say

REFUSED = {
    "--config.sparsty=0.5": "'sparsty' is no field; the nearest is 'sparsity'",
    "--config.modle.name=x": "'modle.name' is no field; the nearest is 'model.name'",
    "--config.width=3": "'width' is no field; the nearest is 'prime.width'",
    "--config.data=3": "'data' is no field",
    "--config.seeds[0]=3": "'seeds[0]' is no field; the nearest is 'seeds'",
    "--config.=3": "'' is no field",
    "--noconfig.epoch": "'epoch' is no field",
    "--config.epochs=abc": "epochs='abc': must be a whole number",
    "--config.epochs=1.5": "epochs='1.5': must be a whole number",
    "--config.epochs=": "epochs='': must be a whole number",
    "--config.epochs=None": "epochs='None': must be a whole number",
    "--config.epochs=0": "epochs=0: allowed is 1 to 1000000",
    "--config.batch_size=-3": "batch_size=-3: allowed is 1 or more",
    "--config.label_smoothing=x: y": "label_smoothing='x': must be a number",
    "--config.label_smoothing=nan": "label_smoothing=nan: allowed is from 0 to below 1",
    "--config.model.width=wide": "model.width='wide': must be a whole number, or None",
    "--config.data.download=maybe": "data.download='maybe': must be true or false",
    "--config.sparsity=1": "sparsity=1: allowed is the fraction removed, from 0 to below 1",
    "--config.sparsity=half": "sparsity='half': allowed is the fraction removed, from 0 to below 1",
    "--config.sparsity=()": "sparsity=(): needs at least one value",
    "--config.sparsity=(0.5,(0.8,))": "sparsity=(0.8,): allowed is the fraction removed",
    "--config.learning_rate=1e400": "learning_rate=inf: allowed is a number above 0",
    "--config.seeds=0.5": "seeds=0.5: allowed is a whole number from 0 to 4294967295",
    "--config.seeds=-1": "seeds=-1: allowed is a whole number from 0 to 4294967295",
    "--config.seeds=1,1": "seeds, sparsity, learning_rate, weight_decay: allowed is every realization once",
    "--config.method=lth5": "method='lth5': allowed are bp, dense, dense_cyclic, ep",
    "--config.model.name=conv5": "model.name='conv5': allowed are ",
    "--config.data.name=cifar": "data.name='cifar': allowed are cifar10, cifar100, digits",
    "--config.augment=flip": "augment='flip': allowed are augmix, crop, gaussian, plain, prime, standard",
    "--config.name=a/b": "name='a/b': allowed are letters",
    "--workdir=": "workdir='': must name a folder",
    "--resume=": "resume='': must name a folder",
    "--dry_run=maybe": "dry_run='maybe': must be true or false",
    "--num_processes=0": "num_processes='0': must be a positive integer",
    "--process_id=-1": "process_id='-1': must be a non-negative integer",
    "--nonsense": "Unknown command line flag 'nonsense'",
    "leftover": "argument 'leftover': allowed are flags",
    "--resume=folder": "resume='folder': allowed without --config and --workdir",
}


@pytest.mark.parametrize(("argument", "message"), REFUSED.items())
def test_a_refused_argument(cards, argument, message):
    refused(cards(QUICK, argument), message)
    assert not tree()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((QUICK, "--", "--config.epochs=3"), "argument '--config.epochs=3': allowed are flags"),
        ((QUICK, "--", "--config.baseline=None"), "argument '--config.baseline=None'"),
        ((QUICK, "--config.compute.deterministic", "True"), "argument 'True'"),
        ((QUICK, "--config.epochs", "x"), "epochs='x': must be a whole number"),
        ((QUICK, "--workdir", "--dry_run"), "workdir='--dry_run': must name a folder"),
        ((QUICK, "--workdir"), "Missing value for flag --workdir"),
        (("--config",), "config='': no such file"),
        (("--config.epochs=3",), "epochs: needs --config=FILE"),
        (("--resume=folder", "--config.epochs=3"), "epochs: needs --config=FILE"),
        (("--resume=folder", "--workdir=w"), "resume='folder': allowed without"),
        (
            (QUICK, "--config.seeds=1,2", "--config.sparsity=0.1,0.2,0.3", "--config.combine=zip"),
            "combine='zip': axes must have one length or length 1, got {'seeds': 2, 'sparsity': 3,",
        ),
        (
            (QUICK, "--coordinator_address=nonsense", "--num_processes=2"),
            "coordinator_address, num_",
        ),
    ],
)
def test_refused_arguments(cards, arguments, message):
    refused(cards(*arguments), message)
    assert not tree()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"3", b"\xff\xfe", b"[" * 100_000, b'{"epochs": "x"}', b'{"a": 1}'],
)
def test_resume_of_a_damaged_folder(cards, content):
    Path("run-1").mkdir()
    Path("run-1/config.json").write_bytes(content)
    before = tree()
    refused(cards("--resume=run-1"), "resume=")
    assert tree() == before


def test_resume_of_no_folder(cards):
    refused(cards("--resume=run-1"), "resume=")
    Path("run-2").mkdir()
    refused(cards("--resume=run-2"), "resume=")
    assert list(tree()) == ["run-2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("batch_size=2000",), "batch_size=2000: allowed is up to 1437 training images"),
        (("data.subset=63",), "batch_size=64: allowed is up to 63 training images"),
        (
            ("data.image_size=3",),
            "data.image_size: images of 3 pixels are too small for model.name='conv4'",
        ),
        (
            ("model.num_classes=9",),
            "model.num_classes=9: the data has 10; allowed is at least that",
        ),
        (("holdout=1000000",), "holdout"),
        (("data.name=cifar10", "data.dir=nowhere"), "data.dir: HERE/nowhere does not exist"),
        (("compute.devices=1000",), "compute.devices=1000: allowed is up to "),
        (("compute.batch_split=3",), "compute.batch_split=3: must divide"),
        (("log.tensorboard=True",), "log.tensorboard=True: needs tensorboardX: pip install"),
        (("baseline=nowhere",), "baseline='HERE/nowhere': no readable results.json there"),
    ],
)
@pytest.mark.parametrize("flag", ["--dry_run", "--nodry_run"])
def test_what_does_not_fit_data_or_machine(cards, monkeypatch, arguments, message, flag):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    overrides = [f"--config.{a}" for a in arguments]
    message = message.replace("HERE", str(Path.cwd()))
    refused(cards(QUICK, "--config.baseline=None", *overrides, flag), message)
    assert not tree()


def results(*rows: dict) -> str:
    return json.dumps({"results": rows})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no readable results.json there"),
        ("[]", "no readable results.json there"),
        ('{"results": 3}', "no readable results.json there"),
        ('{"results": [3]}', "no readable results.json there"),
        (results({"method": "dense"}), "no readable results.json there"),
        (
            results({"method": "dense", "model": "conv4", "data": "digits"}),
            "no readable results.json",
        ),
        (
            results(),
            "holds nothing dense; allowed: None, 'auto', the folder of a dense run of conv4 of width ",
        ),
        (results({"method": "bp", "model": "conv4", "data": "digits"}), "holds nothing dense"),
    ],
)
def test_a_bad_baseline(cards, text, message):
    Path("results.json").write_text(text)
    refused(cards(QUICK, "--config.baseline=."), f"baseline={str(Path.cwd())!r}: {message}")
    assert list(tree()) == ["results.json"]


ARGUMENT = st.one_of(
    st.sampled_from([*REFUSED, "--", QUICK, "--config", "--flagfile=x", "--undefok=x", "--help"]),
    st.builds(
        "--{}config.{}{}{}".format,
        st.sampled_from(["", "", "no"]),
        st.sampled_from(sorted(config.flat(config.defaults()))) | st.text(max_size=5),
        st.sampled_from(["=", "=", "=", "", " "]),
        st.sampled_from(
            ["0", "1", "0.5", "1e-3", "(1,2)", "None", "True", "auto", "'a'", "[", "1," * 9]
        )
        | st.integers().map(str)
        | st.floats().map(str)
        | st.text(max_size=8),
    ),
    st.text(max_size=5),
)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(ARGUMENT, max_size=4))
def test_any_command_line_is_taken_or_refused_in_words(arguments):
    try:
        _, c = main.parse(["cards_jax", QUICK, *arguments])
    except ConfigError as error:
        assert main.one_line(error)
    else:
        assert c is None or config.points(c)
    assert not tree()


# --- what overrides do


@pytest.mark.parametrize("form", ["0.5,0.8", "(0.5,0.8)", "(0.5, 0.8)", "[0.5, 0.8]"])
def test_several_values(cards, form):
    c = main.parse(["cards_jax", QUICK, f"--config.sparsity={form}", "--config.seeds=3,4"])[1]
    assert c.sparsity == (0.5, 0.8) and c.seeds == (3, 4)


@pytest.mark.parametrize("axis", config.AXES)
@pytest.mark.parametrize("form", ["0", "(0,)", "0,", "[0]"])
def test_one_value(axis, form):
    form = form.replace("0", "3" if axis in ("seeds", "learning_rate", "weight_decay") else "0")
    c = main.parse(["cards_jax", QUICK, f"--config.{axis}={form}"])[1]
    value = float(form.strip("(),[]"))
    kind = int if axis == "seeds" else float
    assert c[axis] == (value,) and type(c[axis][0]) is kind


def test_overrides():
    def c(*overrides: str):
        return main.parse(["cards_jax", QUICK, *[f"--config.{o}" for o in overrides]])[1]

    assert c("baseline=FOLDER").baseline == str(Path("FOLDER").absolute())
    assert (
        main.parse(["x", "--config=configs/bp_conv.py", "--config.baseline=auto"])[1].baseline
        == "auto"
    )
    assert c().baseline == "auto" and c("baseline=None").baseline is None
    assert c("model.width=3", "model.width=None").model.width is None
    assert c("model.width=None", "model.width=3").model.width == 3
    assert c("model.affine=true", "model.name=resnet18").model.affine is True
    assert c("compute.deterministic").compute.deterministic is True
    assert c("dense.learning_rate=1").dense.learning_rate == 1.0
    assert c("schedule.drops=3").schedule.drops == (3,)
    assert c("seeds=0", "seeds=1").seeds == (0, 1), "as ml_collections joins tuples"


@pytest.mark.parametrize("form", ["fog,snow", "(fog,snow)", "('fog', 'snow')", '["fog","snow",]'])
def test_several_words(form):
    fields = (f"--config.evaluate.corruptions={form}", "--config.model.unpruned='linear1,conv*'")
    c = main.parse(["cards_jax", QUICK, *fields])[1]
    assert c.evaluate.corruptions == ("fog", "snow")
    assert c.model.unpruned == ("linear1", "conv*")
    empty = main.parse(["cards_jax", QUICK, *fields, "--config.model.unpruned=()"])[1]
    assert empty.model.unpruned == ()


def test_words_that_are_none():
    c = config.defaults()
    c.model.unpruned = (3,)
    with pytest.raises(ConfigError, match=r"model.unpruned=\(3,\): allowed are words"):
        validation.validate(c)


def test_the_home_folder_in_places(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    c = main.parse(["x", QUICK, "--workdir=~/a", "--config.data.dir=~/b"])[1]
    assert (c.workdir, c.data.dir) == (f"{tmp_path}/a", f"{tmp_path}/b")


def test_workdir():
    assert main.parse(["x", QUICK])[1].workdir == "runs"
    assert main.parse(["x", QUICK, "--config.workdir=a"])[1].workdir == "a"
    assert main.parse(["x", QUICK, "--workdir=b", "--config.workdir=a"])[1].workdir == "b"
    assert main.parse(["x", QUICK, "--workdir", "c"])[1].workdir == "c"


def test_print_config_is_read_back(cards):
    arguments = (QUICK, "--config.seeds=5", "--config.model.affine=False", "--workdir=elsewhere")
    code, out, err = cards(*arguments, "--print_config")
    assert (code, err) == (0, "")
    assert config.flat(config.from_json(out)) == config.flat(main.parse(["x", *arguments])[1])
    assert not tree()


# --- what runs


def test_dry_run_prints_sizes_and_writes_nothing(tmp_path):
    cache, home, runs = tmp_path / "cache", tmp_path / "home", tmp_path / "empty"
    for folder in (cache, home, runs):
        folder.mkdir()
    done = spawn(
        *(QUICK, f"--workdir={runs}", "--dry_run", "--config.compute.deterministic"),
        CARDS_JAX_CACHE=str(cache),
        HOME=str(home),  # matplotlib would write a cache of fonts there
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    snapshot, _, facts = done.stdout.partition("\n}\n")
    c = config.from_json(snapshot + "}")
    assert c.workdir == str(runs) and c.compute.deterministic
    for fact in (
        f"folder              {runs}/quickstart-",
        "realizations        4 cards, 4 trained side by side\n",
        "parameters          214,112 each, 214,112 of them prunable",
        "steps               220 of 64 images",
        " MB for each realization of a group, ",
        " MB for each that is computed at once, ",
        f"baseline            {runs}/quickstart_dense-",
    ):
        assert fact in facts
    assert sorted(tree()) == ["cache", "empty", "home"]


def images(folder: Path, side: int = 8) -> Path:
    """A small tree of images: two classes, four training and two test images each."""
    for split, count in (("train", 4), ("test", 2)):
        for label, colour in (("a", 60), ("b", 200)):
            (folder / split / label).mkdir(parents=True)
            for i in range(count):
                image = Image.new("RGB", (side, side), (colour, 10 * i, 0))
                image.save(folder / split / label / f"{i}.png")
    return folder


@pytest.mark.parametrize("named", [True, False])
def test_dry_run_leaves_the_data_cache_alone(cards, monkeypatch, tmp_path, named):
    """Whether the decoded images are in the cache already, or are not."""
    cache, source = tmp_path / "cache", images(tmp_path / "images")
    monkeypatch.setenv("CARDS_JAX_CACHE", str(cache))
    tiny = [*TINY, "--config.data.name=folder", f"--config.data.dir={source}"]
    tiny += ["--config.batch_size=4", "--config.data.subset=0"]
    tiny += [f"--config.data.cache_dir={cache}"] if named else []
    for _ in range(2):
        before = tree()
        code, out, err = cards(*tiny, "--dry_run")
        assert code == 0, err
        assert "training images     8, test 4" in out
        assert tree() == before
        data.prepare(main.parse(["x", *tiny])[1])
        assert cache.is_dir()


def test_dry_run_reads_the_cache(cards, tmp_path, monkeypatch):
    """An archive that lies in the cache is found there; nothing is downloaded."""
    cache = tmp_path / "cache"
    (cache / "cifar10").mkdir(parents=True)
    (cache / "cifar10" / "cifar-10-binary.tar.gz").write_bytes(b"damaged")
    arguments = ("--config=configs/bp_conv.py", "--config.data.download", "--dry_run")
    code, _, err = cards(*arguments, f"--config.data.cache_dir={cache}")
    assert code == 2 and "cifar-10-binary.tar.gz" in err and "no such" not in err
    empty = tmp_path / "empty"
    code, _, err = cards(*arguments, f"--config.data.cache_dir={empty}")
    assert code == 2 and f"put it into {empty / 'cifar10'}, or" in err
    assert "a dry run downloads nothing" in err
    assert not empty.exists()


@pytest.mark.slow
def test_a_dense_folder_as_baseline(cards):
    dense = ("--config.method=dense", "--config.sparsity=0", "--config.name=dense")
    assert cards(*TINY, *dense)[0] == 0
    (folder,) = Path("runs").glob("dense-*")
    assert cards(f"--resume={folder}")[0] == 0
    typed = [shlex.split(line) for line in (folder / "commands.txt").read_text().splitlines()]
    assert typed == [
        ["python", "-m", "cards_jax.main", *given]
        for given in ((*TINY, *dense), (f"--resume={folder}",))
    ]
    tiny = (*TINY, "--config.sparsity=0.5", f"--config.baseline={folder}")
    code, _, err = cards(*tiny)
    assert code == 0, err
    (found,) = Path("runs").glob("quickstart-*/results.json")
    row = json.loads(found.read_text())["summary"][0]
    dense_rows = json.loads((folder / "results.json").read_text())["results"]
    accuracy = sum(r["test_accuracy"] for r in dense_rows) / 2
    assert row["dense_accuracy"] == pytest.approx(accuracy)
    assert row["difference_mean"] == pytest.approx(100 * (row["accuracy_mean"] - accuracy))
    before = tree()
    refused(
        cards(*tiny, "--config.model.name=conv4"),
        f"baseline={str(folder)!r}: holds conv2 of width 2 on 64 images of digits; allowed: None, 'auto', "
        f"the folder of a dense run of conv4 of width 2 on 64 images of digits",
    )
    refused(
        cards(*tiny, "--config.model.width=9"),
        "allowed: None, 'auto', the folder of a dense run of conv2 of width 9 on 64 images of digits",
    )
    refused(
        cards(*tiny, "--config.data.subset=99"),
        "the folder of a dense run of conv2 of width 2 on 99 images of digits",
    )
    assert tree() == before


@pytest.mark.parametrize("arguments", [(), (QUICK, "--config.sparsity=1"), (QUICK, "--nonsense")])
def test_a_process_ends_with_one_line_and_code_2(arguments):
    done = spawn(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("cards_jax: ") and done.stderr.count("\n") == 1
    assert not tree()


@pytest.mark.parametrize("platform", ["cuda", "nothing"])
def test_a_platform_that_is_not_there(platform):
    if platform == "cuda" and jax.default_backend() == "gpu":
        pytest.skip("this machine has a GPU, which the test wants absent")
    done = spawn(QUICK, JAX_PLATFORMS=platform)
    line = f"cards_jax: JAX_PLATFORMS={platform!r}: JAX finds no such device\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)
    assert not tree()


def test_a_reader_that_goes_away():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "cards_jax.main", QUICK, "--print_config"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, timeout=300)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


def test_out_of_memory_is_one_line(cards, monkeypatch):
    monkeypatch.setattr(main, "run", lambda argv: jax.numpy.zeros((10**7, 10**7)))
    code, out, err = cards()
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(
        "cards_jax: the device is out of memory; try a smaller compute.group_size"
    )


def test_the_console_command():
    command = Path(sys.executable).parent / "cards-jax"
    if not command.is_file():
        pytest.skip(f"the package is not installed: no {command}")
    done = spawn(QUICK, "--print_config", program=(str(command),))
    assert done.returncode == 0, done.stderr
    assert config.from_json(done.stdout).name == "quickstart"


@pytest.mark.slow
def test_a_wheel_brings_the_configs(tmp_path):
    """Built from a copy of the sources, installed elsewhere, run from an empty folder."""
    if not importlib.util.find_spec("pip"):
        pytest.skip("needs pip")
    root, copy, site = Path(main.__file__).parents[1], tmp_path / "copy", tmp_path / "site"
    skipped = shutil.ignore_patterns(
        ".git", ".venv*", "*.egg-info", "__pycache__", "results", "runs"
    )
    shutil.copytree(root, copy, ignore=skipped)
    pip = ["-m", "pip", "--disable-pip-version-check"]
    built = spawn("--no-deps", "-w", "wheels", str(copy), program=(*pip, "wheel"))
    assert built.returncode == 0, built.stderr
    (wheel,) = Path("wheels").glob("cards_jax-*.whl")
    installed = spawn("--no-deps", "--target", str(site), str(wheel), program=(*pip, "install"))
    assert installed.returncode == 0, installed.stderr
    Path("work").mkdir()
    os.chdir("work")
    for name in ("configs/quickstart.py", "configs/bp_conv.py:conv8"):
        done = spawn(f"--config={name}", "--print_config", PYTHONPATH=str(site))
        assert done.returncode == 0, done.stderr
        assert config.flat(config.from_json(done.stdout))
    where = "import cards_jax; print(cards_jax.__file__)"
    done = spawn(program=("-c", where), PYTHONPATH=str(site))
    assert Path(done.stdout.strip()).parent == site / "cards_jax"
