"""The command line: flags, config, run, report.

    python -m cards_jax.main --config=configs/quickstart.py [--config.FIELD=VALUE ...]
"""

import os
import sys
from pathlib import Path

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

import cards_jax
from cards_jax import config, folder
from cards_jax.config import ConfigError

REQUEUE = 75  # exit code after a signal: saved, the same command continues (EX_TEMPFAIL of sysexits.h)
FAILED, MISUSED = 1, 2


def define_flags(argv: list[str]) -> flags.FlagValues:
    """The flags of this program, on their own, so that several runs fit in one process."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config", None, "config file, with overrides as --config.FIELD=VALUE", values, sys_argv=argv
    )
    define = dict(flag_values=values)
    flags.DEFINE_string("workdir", None, "folder that holds the runs' folders", **define)
    flags.DEFINE_string("resume", None, "run folder to continue, without a config", **define)
    flags.DEFINE_bool("dry_run", False, "print config, sizes and estimates; write nothing", **define)
    flags.DEFINE_bool("print_config", False, "print the resolved config and stop", **define)
    flags.DEFINE_bool("help", False, "show this help", short_name="h", **define)
    flags.DEFINE_string("coordinator_address", None, "host:port of process 0", **define)
    flags.DEFINE_integer("num_processes", None, "processes of this run", **define)
    flags.DEFINE_integer("process_id", None, "number of this process", **define)
    return values


def find_config(argument: str) -> str:
    """The file behind --config=FILE[:args]; an installed package finds its own configs by the same name."""
    path, colon, args = argument.partition(":")
    if Path(path).is_file():
        return argument
    shipped = Path(cards_jax.__file__).parent / "configs"
    if not shipped.is_dir():  # a checkout keeps them beside the package
        shipped = shipped.parents[1] / "configs"
    names = sorted(p.stem for p in shipped.glob("*.py") if p.stem != "__init__")
    found = shipped / Path(path).name
    if Path(path).parent.name in ("", "configs") and found.is_file():
        return f"{found}{colon}{args}"
    raise ConfigError(f"config={path!r}: no such file; the shipped ones are {', '.join(names)}")


def with_found_config(argv: list[str]) -> list[str]:
    """Arguments in which --config names an existing file; `--config FILE` becomes `--config=FILE`."""
    out, rest = [], list(argv)
    while rest:
        argument = rest.pop(0)
        if argument in ("--config", "-config") and rest:
            argument = f"--config={rest.pop(0)}"
        name, equals, value = argument.partition("=")
        if name in ("--config", "-config") and equals:
            argument = f"--config={find_config(value)}"
        out.append(argument)
    return out


def one_line(error: BaseException) -> str:
    """An error's message on one line."""
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    return " ".join(str(text).split()) or type(error).__name__


def parse(argv: list[str]) -> tuple[flags.FlagValues, ConfigDict | None]:
    """Flags and the validated config, None where help was asked for; ConfigError for anything that does not fit."""
    argv = with_found_config(argv)
    values = define_flags(argv)
    try:
        rest = values(argv)
        c = values.config
    except Exception as error:  # a config file is a program: whatever it raises is said in a line
        raise ConfigError(one_line(error)) from None
    if values.help:
        return values, None
    if len(rest) > 1:
        raise ConfigError(f"unexpected argument {rest[1]!r}; fields are set as --config.FIELD=VALUE")
    if values.resume and c is not None:
        raise ConfigError("resume: takes the config of its folder; give either --resume or --config")
    if values.resume:
        c = folder.read_config(values.resume)
    if c is None:
        raise ConfigError("config: none given; try --config=configs/quickstart.py or --help")
    if not isinstance(c, ConfigDict):
        raise ConfigError(f"config: get_config() must return a ConfigDict, got {type(c).__name__}")
    unknown = config.flat(c).keys() - config.flat(config.defaults()).keys()
    if unknown:
        raise ConfigError(f"config: unknown field {sorted(unknown)[0]!r}; start from cards_jax.config.defaults()")
    if values.workdir:
        with c.unlocked():
            c.workdir = values.workdir
    return values, config.validate(c)


def prepare_jax(c: ConfigDict, values: flags.FlagValues) -> None:
    """Devices, processes and caches, before the first computation: nothing here may touch a device."""
    if c.compute.deterministic:
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_gpu_deterministic_ops=true"
    processes = values.num_processes or 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # One host device per core: a narrow convolution uses one thread, so cores are filled by realizations.
    try:
        jax.config.update("jax_num_cpu_devices", max(1, (c.compute.devices or cores) // processes))
    except RuntimeError:
        pass  # called from a process whose devices are there already: they are used as they are
    cache = Path(c.workdir).absolute() / "cache" / "xla"
    if not values.dry_run:
        jax.config.update("jax_compilation_cache_dir", str(cache))
    if values.coordinator_address or processes > 1:
        jax.distributed.initialize(values.coordinator_address, values.num_processes, values.process_id)


def run(argv: list[str]) -> int:
    """Everything that one command does; returns the exit code."""
    values, c = parse(argv)
    if c is None:
        print(__doc__ + "\n" + values.get_help())
        return 0
    if values.print_config:
        print(config.to_json(c))
        return 0
    prepare_jax(c, values)
    from cards_jax import experiment  # here: heavy imports come after the config is known to be good

    if values.dry_run:
        print(experiment.dry_run(c))
        return 0
    try:
        experiment.complete(c)
    except experiment.Stopped as stopped:
        print(stopped, file=sys.stderr)
        return REQUEUE
    return 0


def main(argv: list[str]) -> int:
    """`run`, with every expected failure as one line on stderr and an exit code."""
    try:
        return run(argv)
    except ConfigError as error:
        print(f"cards_jax: {one_line(error)}", file=sys.stderr)
        return MISUSED
    except (OSError, MemoryError) as error:
        print(f"cards_jax: {one_line(error)}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("cards_jax: interrupted before it could save; the same command continues", file=sys.stderr)
        return REQUEUE


def console() -> None:
    """Entry point of the `cards-jax` command."""
    sys.exit(main(sys.argv))


if __name__ == "__main__":
    console()
