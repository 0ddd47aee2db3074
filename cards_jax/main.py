"""The command line: flags, config, run, report.

python -m cards_jax.main --config=configs/quickstart.py [--config.FIELD=VALUE ...]
"""

import os
import re
import runpy
import shlex
import sys
import traceback
from pathlib import Path

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

import cards_jax
from cards_jax import config, folder, peers, programs, realizations, signals, validation
from cards_jax.config import ConfigError

FAILED, MISUSED = 1, 2  # exit codes
REQUEUE = 75  # saved after a signal, the same command continues; EX_TEMPFAIL of sysexits.h


def take_config(argv: list[str]) -> tuple[str | None, list[str]]:
    """(FILE[:args] or None, the other arguments) of a command line; the last --config wins."""
    found, rest, todo = None, argv[:1], argv[1:]
    while todo and todo[0] != "--":
        argument = todo.pop(0)
        name, equals, value = argument.partition("=")
        if name not in ("--config", "-config"):
            rest.append(argument)
        elif equals:
            found = value
        else:
            found = todo.pop(0) if todo else ""
    return found, rest + todo


def find_config(path: str) -> Path:
    """The config file of that name; an installed package finds its own ones by the names that a checkout has."""
    if os.path.isfile(path):
        return Path(path)
    shipped = Path(cards_jax.__file__).parent / "configs"
    if not shipped.is_dir():  # a checkout keeps them beside the package
        shipped = shipped.parents[1] / "configs"
    found = shipped / Path(path).name
    if Path(path).parent in (Path("."), Path("configs")) and found.is_file():
        return found
    names = sorted(p.name for p in shipped.glob("*.py") if p.stem != "__init__")
    raise ConfigError(f"config={path!r}: no such file; the shipped ones are {', '.join(names)}")


def load_config(argument: str) -> ConfigDict:
    """What get_config(args) of FILE[:args] returns, on top of the defaults; ConfigError for whatever is wrong."""
    path, colon, args = argument.partition(":")
    file = find_config(path)
    try:
        get_config = runpy.run_path(str(file)).get("get_config")
        if get_config is None:
            raise ConfigError("it defines no get_config()")
        c = get_config(*[args] if colon else [])
        if not isinstance(c, ConfigDict):
            raise ConfigError(f"get_config() must return a ConfigDict, got {type(c).__name__}")
        return config.completed(config.flat(c))
    except ConfigError as error:
        raise ConfigError(f"config={argument!r}: {error}") from None
    except (Exception, SystemExit) as error:  # a config file is a program: it may raise anything
        said = _of_another_type(error) or f"{type(error).__name__}: {error}"
        raise ConfigError(f"config={argument!r}: {said}") from None


def _of_another_type(error: BaseException) -> str | None:
    """What a field must be, where a config file gave it a value of another type; None for other errors."""
    refused = re.match(r"Could not override field '(\w+)'", str(error))
    fields = config.flat(config.defaults())
    named = [f for f in fields if refused and f.rpartition(".")[2] == refused[1]]
    if len(named) != 1:
        return None
    example = ", as (0.5,)" * isinstance(fields[named[0]], tuple)
    return f"{named[0]}: must be {config.kind(named[0])}{example}"


def overridden(argument: str) -> str | None:
    """The field that an argument --config.FIELD=VALUE sets, None for another argument."""
    found = re.fullmatch(r"--?(?:no)?config\.([^=]*)(?:=.*)?", argument, re.DOTALL)
    return found and found[1]


def take_plain(c: ConfigDict | None, argv: list[str]) -> list[str]:
    """Check the names of overrides; what flags cannot read is done here: `--config.FIELD=None`, and several words."""
    rest, todo = [], list(argv)
    while todo and todo[0] != "--":
        rest.append(todo.pop(0))
        field = overridden(rest[-1])
        if field is None:
            continue
        if c is None:
            raise ConfigError(f"{field}: needs --config=FILE; allowed with --resume is no field")
        config.check_name(field)
        _, equals, value = rest[-1].partition("=")
        none = value == "None" and config.optional(field)
        if none or (equals and field in config.WORDS):
            config.assign(c, field, None if none else config.words(value))
            rest = [a for a in rest if overridden(a) != field]
    return rest + todo


def define_flags(values: flags.FlagValues, c: ConfigDict | None, argv: list[str]) -> None:
    """The flags of this program, and one for each field that argv overrides in `c`."""
    text = "config file as FILE[:args], with overrides as --config.FIELD=VALUE"
    define = dict(flag_values=values)
    if c is None:
        flags.DEFINE_string("config", None, text, **define)
    else:
        config_flags.DEFINE_config_dict("config", c, text, values, sys_argv=argv)
    flags.DEFINE_string("workdir", None, "folder that holds the runs' folders", **define)
    flags.DEFINE_string("resume", None, "run folder to continue, without a config", **define)
    flags.DEFINE_bool("dry_run", False, "print config, sizes, estimates; write nothing", **define)
    flags.DEFINE_bool("print_config", False, "print the resolved config and stop", **define)
    flags.DEFINE_bool("help", False, "show this help", short_name="h", **define)
    flags.DEFINE_string("coordinator_address", None, "host:port of process 0", **define)
    flags.DEFINE_integer("num_processes", None, "processes of this run", 1, **define)
    flags.DEFINE_integer("process_id", None, "number of this process", 0, **define)
    flags.DEFINE_bool("distributed", False, "ask the cluster for these three (TPU pod)", **define)
    text = "seconds of silence after which a process counts as gone"
    flags.DEFINE_float("peer_timeout", peers.PATIENCE, text, 1, **define)


def explained(error: Exception, values: flags.FlagValues) -> ConfigError:
    """A flag's failure in our words: name, value, what it must be."""
    mistyped = re.match(r"flag --([\w.]+)=(.*?): ", str(error), re.DOTALL)
    unknown = re.match(r"Unknown command line flag '([\w.]+)'", str(error))
    if unknown and unknown[1] in config.flat(config.defaults()):
        return ConfigError(
            f"--{unknown[1]} is no flag; fields are set as --config.{unknown[1]}=VALUE"
        )
    if not mistyped:
        return ConfigError(one_line(error))
    name, value = mistyped.groups()
    field = name.removeprefix("config.")
    own = values[name].parser.syntactic_help or config.KINDS[bool]
    return ConfigError(f"{field}={value!r}: must be {own if field == name else config.kind(field)}")


def one_line(error: BaseException) -> str:
    """An error's message on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def parse(argv: list[str]) -> tuple[flags.FlagValues, ConfigDict | None]:
    """Flags and the validated config, None where help was asked for; ConfigError for anything that does not fit."""
    file, argv = take_config(argv)
    c = None if file is None else load_config(file)
    argv = take_plain(c, argv)
    values = flags.FlagValues()  # not absl's global ones, so that several runs fit in one process
    try:
        define_flags(values, c, argv)
        rest = values(argv)
    except Exception as error:  # flags and their parsers fail in many ways
        raise explained(error, values) from None
    if values.help:
        return values, None
    if len(rest) > 1:
        raise ConfigError(f"argument {rest[1]!r}: allowed are flags, as --config.FIELD=VALUE")
    for flag in ("workdir", "resume"):
        if values[flag].value is not None and values[flag].value[:1] in ("", "-"):
            raise ConfigError(f"{flag}={values[flag].value!r}: must name a folder")
    if values.resume and (c or values.workdir):
        raise ConfigError(f"resume={values.resume!r}: allowed without --config and --workdir")
    if values.resume:
        c = folder.read_config(values.resume)
    if c is None:
        raise ConfigError("config: none given; try --config=configs/quickstart.py or --help")
    if values.workdir:
        config.assign(c, "workdir", values.workdir)
    return values, validation.validate(c)


def use_flags(c: ConfigDict) -> None:
    """The flags of XLA that a config asks for; before the first computation."""
    if c.compute.deterministic:
        given = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{given} --xla_gpu_deterministic_ops=true"


def prepare_jax(c: ConfigDict, values: flags.FlagValues) -> None:
    """Devices, processes and caches, before the first computation: nothing here may touch a device."""
    use_flags(c)
    processes = values.num_processes or peers.announced()
    realizations.use_cores(c.compute.devices, values.num_processes or peers.beside())
    cache = Path(c.workdir).absolute() / "cache" / "xla"
    if not values.dry_run:
        programs.sweep(cache)
        jax.config.update("jax_compilation_cache_dir", str(cache))
    if values.coordinator_address or values.distributed or processes > 1:
        distribute(values)


def distribute(values: flags.FlagValues) -> None:
    """Join the other processes; ConfigError where the flags do not tell how."""
    given = (values.coordinator_address, values.num_processes, values.process_id)
    try:
        peers.join(*given, values.peer_timeout)
    except (ValueError, RuntimeError) as error:
        names = "coordinator_address, num_processes, process_id"
        raise ConfigError(f"{names}={given}: {error}") from None


def run(argv: list[str]) -> int:
    """Everything that one command does; returns the exit code."""
    realizations.use_cores(processes=peers.beside())  # a config file of one's own may compute
    values, c = parse(argv)
    if c is None:
        print(__doc__ + "\n" + values.get_help())
        return 0
    if values.print_config:
        print(config.to_json(c))
        return 0
    prepare_jax(c, values)
    # Heavy imports come after the config is known to be good.
    from cards_jax import experiment

    if values.dry_run:
        print(experiment.dry_run(c))
        return 0
    try:
        experiment.complete(c, shlex.join(["python", "-m", "cards_jax.main", *argv[1:]]))
    except experiment.Stopped as stopped:
        print(stopped, file=sys.stderr)
        return REQUEUE
    return 0


def main(argv: list[str]) -> int:
    """`run`, with every expected failure as one line on stderr and an exit code; other processes end with it."""
    try:
        with signals.interrupting():
            code = run_in_a_line(argv)
    except peers.Lost as error:
        print(f"cards_jax: {error}", file=sys.stderr, flush=True)
        os._exit(REQUEUE)  # an exit that waits for nobody
    except Exception as error:
        peers.explain()
        if peers.alone():
            raise
        traceback.print_exc()
        peers.fail(FAILED, one_line(error))
    peers.leave(code)
    return code


def run_in_a_line(argv: list[str]) -> int:
    """`run`, with every expected failure as one line on stderr and an exit code."""

    def end(code: int, text: str) -> int:
        peers.explain()
        print(f"cards_jax: {text}", file=sys.stderr)
        peers.fail(code, text)
        return code

    try:
        code = run(argv)
        sys.stdout.flush()
        return code
    except ConfigError as error:
        return end(MISUSED, one_line(error))
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (OSError, MemoryError) as error:
        return end(FAILED, one_line(error))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        advice = "try a smaller compute.group_size or batch_size"
        return end(FAILED, f"the device is out of memory; {advice} ({one_line(error)})")
    except KeyboardInterrupt:
        return end(REQUEUE, "interrupted before it could save; the same command continues")


def console() -> None:
    """Entry point of the `cards-jax` command."""
    sys.exit(main(sys.argv))


if __name__ == "__main__":
    console()
