"""Single flipped bits, truncations and losses of every file of checkpoints, cards, decks and run folders."""

import contextlib
import io
import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import cards
import decks
import jax
import numpy as np
import runs

import cards_jax
from cards_jax import deck_file, folder, pack
from cards_jax.checkpoint import Checkpoints
from faults.stage import Stage, difference, telling
from faults.trial import BEFORE, HARMLESS, LOST, MENDED, REFUSED, SAME, SILENT, TRACEBACK, Trial

AMOUNTS = {"checkpoint": 700, "card": 250, "deck": 250, "run folder": 60, "stopped run": 24}
OF_RUNS = (
    "state.json",
    "config.json",
    "versions.json",
    "results.json",
    "metrics.jsonl",
    "metrics.csv",
)


def total(quick: bool) -> int:
    return sum(n // 20 if quick else n for n in AMOUNTS.values())


def trials(place: Path, quick: bool) -> Iterator[Trial]:
    chance, stage = random.Random(0), Stage(place)
    of = {
        "checkpoint": _checkpoints,
        "card": _cards,
        "deck": _decks,
        "run folder": _run_folders,
        "stopped run": _stopped_runs,
    }
    for name, amount in AMOUNTS.items():
        yield from of[name](stage, chance, amount // 20 if quick else amount)


# --- what is done to a file


def _damages(files: list[Path], chance: random.Random, amount: int) -> Iterator[tuple[str, Path]]:
    """Damage one file after another, every file in turn: (what was done, file); the caller puts it back."""
    kinds = ("flipped bit", "flipped bit", "flipped bit", "truncation", "flipped bit", "emptied")
    for i in range(amount):
        file, kind = files[i % len(files)], kinds[i // len(files) % len(kinds)]
        content = file.read_bytes()
        if not content and kind != "flipped bit":
            kind = "flipped bit"
        if kind == "flipped bit" and content:
            runs.flip(file, chance)
        elif kind == "flipped bit":
            file.write_bytes(b"\1")  # an empty file has no bit to flip
            kind = "a byte in an empty file"
        elif kind == "truncation":
            file.write_bytes(content[: chance.randrange(len(content))])
        else:
            file.write_bytes(b"")
        yield kind, file
        file.write_bytes(content)


def _judged(name: str, load: Callable, same: Callable) -> Trial:
    """Of a file that is loaded or refused with a ValueError or OSError in one line."""
    try:
        found = load()
    except (ValueError, OSError) as error:
        one_line = str(error) and "\n" not in str(error)
        return Trial(name, REFUSED if one_line else TRACEBACK, str(error))
    except Exception as error:
        return Trial(name, TRACEBACK, repr(error))
    return Trial(name, HARMLESS if same(found) else SILENT, "")


def _bits(tree) -> list:
    return [(x.dtype.str, x.shape, np.asarray(x).tobytes()) for x in jax.tree.leaves(tree)]


# --- checkpoints


def _checkpoints(stage: Stage, chance: random.Random, amount: int) -> Iterator[Trial]:
    saved = Path(stage.reference().path, "checkpoints", "group_0")
    copy = shutil.copytree(saved, stage.place / "checkpoint")
    said: list[str] = []
    saves = Checkpoints(copy, notice=said.append)
    good = {step: _restored(saves, step) for step in saves.steps()}
    before, newest = sorted(good)[-2:]
    files = sorted(p for p in copy.rglob("*") if p.is_file())
    for kind, file in _damages(files, chance, amount):
        said.clear()
        step = int(file.relative_to(copy).parts[0])
        age = "newest" if step == newest else "older"
        name = f"{kind}: {_kind_of(file)} of the {age} checkpoint"
        try:
            found = saves.restore(_like(copy))
        except (ValueError, OSError) as error:
            yield Trial(name, REFUSED, str(error))
            continue
        except Exception as error:
            yield Trial(name, TRACEBACK, repr(error))
            continue
        yield _judge_restored(name, found, good, newest, said)


def _judge_restored(name, found, good, newest, said) -> Trial:
    if found is None:
        return Trial(name, LOST, "no checkpoint was found")
    step, state, meta = found
    if (_bits(state), meta) != good.get(step):
        return Trial(name, SILENT, f"step {step} holds other numbers")
    if step == newest:
        return Trial(name, HARMLESS, " ".join(said))
    told = len(said) == 1 and f"checkpoint {step} is used instead" in said[0]
    return Trial(name, BEFORE if told else SILENT, " ".join(said))


def _kind_of(file: Path) -> str:
    """Which of Orbax's files, whose data files have names of their own."""
    return "a data file" if re.fullmatch(r"[0-9a-f]{20,}", file.name) else file.name


def _like(saved: Path) -> dict:
    """What a restore needs to know, from whichever manifest is whole."""
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    for manifest in saved.glob("*/manifest.json"):
        with contextlib.suppress(ValueError, KeyError):
            leaves = json.loads(manifest.read_bytes())["note"]["leaves"]
            return {
                name: jax.ShapeDtypeStruct(
                    tuple(map(int, re.findall(r"\d+", text[text.index("[") :]))),
                    text[: text.index("[")],
                    sharding=place,
                )
                if not text.startswith("key<")
                else None
                for name, text in leaves.items()
            }
    raise AssertionError("no manifest is whole")


def _restored(saves: Checkpoints, step: int):
    """The state and the meta of a step, read from a folder that holds it alone."""
    alone = saves.folder.with_name("alone")
    shutil.copytree(saves.folder / str(step), alone / str(step))
    _, state, meta = Checkpoints(alone).restore(_like(alone))
    shutil.rmtree(alone)
    return _bits(state), meta


# --- cards and decks


def _cards(stage: Stage, chance: random.Random, amount: int) -> Iterator[Trial]:
    yield from _packed(stage, chance, amount, "card")


def _decks(stage: Stage, chance: random.Random, amount: int) -> Iterator[Trial]:
    yield from _packed(stage, chance, amount, "deck")


def _packed(stage: Stage, chance: random.Random, amount: int, kind: str) -> Iterator[Trial]:
    place = stage.place / f"{kind}s"
    place.mkdir()
    files = [shutil.copy(p, place) for p in stage.reference().path.glob("cards/*.card")]
    if kind == "deck":
        files = [place / "small.deck", place / "agnostic.deck"]
        decks.small().save(files[0])
        decks.small(gated=False).save(files[1])
    else:
        for name, spec in (("normalised", cards.NORMALISED), ("narrow", cards.NARROW)):
            files.append(place / f"{name}.card")
            pack.save(files[-1], cards.sampled(spec, 0.8, True), spec, {"seed": 1})
    files = sorted(map(Path, files))
    whole = {file: _content(file) for file in files}
    for damage, file in _damages(files, chance, amount):
        same = lambda found, file=file: _content_of(found) == whole[file]
        yield _judged(f"{damage}: a {kind} file", lambda file=file: cards_jax.load(file), same)


def _content(file: Path):
    return _content_of(cards_jax.load(file))


def _content_of(found):
    if isinstance(found, pack.CardFile):
        return _bits(found.card), found.meta, found.spec
    return deck_file.encode(found)


# --- the folder of a run


def _run_folders(stage: Stage, chance: random.Random, amount: int) -> Iterator[Trial]:
    """A finished run whose command is given again."""
    reference = stage.reference()
    folders = [
        *OF_RUNS[:2],  # twice as often: they decide what is trained
        *OF_RUNS,
        *(str(p.relative_to(reference.path)) for p in reference.path.glob("cards/*.card")),
    ]
    for i in range(amount):
        yield _again(stage, reference, folders[i % len(folders)], chance, f"finished_{i}")


def _stopped_runs(stage: Stage, chance: random.Random, amount: int) -> Iterator[Trial]:
    """A run that was stopped halfway, and goes on."""
    with runs.compiled_once(stage.cache):
        runner = stage.runner()
        runs.stopped(runner.c, 3)
        newest = max(runner.path.glob("checkpoints/group_0/[0-9]*"), key=lambda p: int(p.name))
        data = str(runs.largest(newest).relative_to(runner.path))
    files = ["state.json", "metrics.jsonl", "metrics.csv", data, "config.json", "state.json"]
    for i in range(amount):
        yield _again(stage, runner, files[i % len(files)], chance, f"stopped_{i}")


def _again(stage: Stage, runner, name: str, chance: random.Random, copy: str) -> Trial:
    """Damage a file in a copy of a run, give the command again, compare its end with the undisturbed one."""
    at = Path(shutil.copytree(runner.path, stage.place / copy / runner.path.name))
    kind = "finished" if copy.startswith("finished") else "stopped"
    ((damage, _),) = ((d, f) for d, f in _first(_damages([at / name], chance, 1)))
    label = re.sub(r"[^/]*\.card", "a card file", name)
    label = re.sub(r"checkpoints/.*", "a file of its checkpoint", label)
    fault = f"{damage}: {label} of a {kind} run"
    c = runner.c.copy_and_resolve_references()
    with c.unlocked():
        c.workdir = str(at.parent)
    out = io.StringIO()
    try:
        with (
            runs.compiled_once(stage.cache),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(out),
        ):
            runs.finished(c)
    except (ValueError, OSError) as error:
        shutil.rmtree(at.parent)
        return Trial(fault, REFUSED, str(error))
    except Exception as error:
        return Trial(fault, TRACEBACK, repr(error))
    wrong = difference(folder.path_of(c), stage.reference().path)
    shutil.rmtree(at.parent)
    told = telling(out.getvalue())
    warned = any(
        w in out.getvalue() for w in ("is damaged", "made again", "trained again", "do not agree")
    )
    if not wrong:
        return Trial(fault, MENDED if warned else SAME if kind == "stopped" else HARMLESS, told)
    return Trial(fault, MENDED if "do not agree" in out.getvalue() else SILENT, wrong)


def _first(damages: Iterator) -> Iterator:
    """The first damage alone, which stays."""
    yield next(damages)
