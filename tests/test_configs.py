"""Every shipped config is valid, builds its network, says how it is started, and refuses misspelt fields."""

import subprocess
import sys
from pathlib import Path

import jax
import pytest

from cards_jax import config, main, methods, models
from cards_jax.models import Spec

ROOT = Path(__file__).resolve().parents[1]
NAMES = sorted(p.name for p in (ROOT / "configs").glob("*.py") if p.stem != "__init__")
VARIANTS = [f"{name}:conv{n}" for name in NAMES if "_conv" in name for n in (2, 4, 6, 8)]
MILLIONS = {"conv2": 4_300_992, "conv4": 2_425_024, "conv6": 2_261_184, "conv8": 5_275_840}
MILLIONS |= {"resnet18": 11_164_352}  # prunable weights of the originals' networks


TICKETS = [name for name in NAMES if name.startswith("ticket")]  # they need another run's folder


def loaded(name: str, *overrides: str) -> config.ConfigDict:
    """The resolved config behind --config=configs/NAME."""
    return main.parse(["cards_jax", f"--config=configs/{name}", *overrides])[1]


def test_every_method_has_its_config():
    for method in ("dense", "ft", "gmp", "lth", "lrr", "ep", "bp"):
        assert {f"{method}_conv.py", f"{method}_resnet18.py"} <= set(NAMES)
    found = {loaded(name).method for name in NAMES if name not in TICKETS}
    assert found == set(methods.names()) - {"ticket"}


def test_reading_a_config_leaves_the_choice_of_devices_open():
    """A run takes a device for each core, and joins other processes, when its config is known: nothing is computed."""
    program = "\n".join(
        (
            "import sys, jax",
            "from cards_jax import main",
            "for name in sys.argv[1:]:",
            "    main.parse(['cards_jax', f'--config=configs/{name}'])",
            "jax.config.update('jax_num_cpu_devices', 3)",
            "assert jax.device_count() == 3",
        )
    )
    line = [sys.executable, "-c", program, *(name for name in NAMES if name not in TICKETS)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", TICKETS)
def test_a_ticket_needs_the_run_that_found_it(name):
    with pytest.raises(config.ConfigError, match="ticket.source=None: must be the folder of a"):
        loaded(name)


@pytest.mark.parametrize("levels, sparsity, epochs", [("7", 0.7903, 1280), ("13", 0.945, 2240)])
def test_controls_have_the_budget_of_lrr(levels, sparsity, epochs):
    gmp, ft = loaded(f"gmp_long_resnet18.py:{levels}"), loaded(f"ft_long_resnet18.py:{levels}")
    cyclic = loaded(f"dense_cyclic_resnet18.py:{levels}")
    assert gmp.sparsity == ft.sparsity == (sparsity,)
    assert gmp.epochs == ft.epochs + ft.finetune.epochs == epochs
    assert cyclic.epochs * (cyclic.pruning.cycles + 1) == epochs


@pytest.mark.parametrize("name", [n for n in NAMES if n not in TICKETS] + VARIANTS)
def test_is_valid_and_builds_its_network(name):
    c = loaded(name)
    model, default = c.model.name, models.family(c.model.name).WIDTH
    classes = {"digits": 10, "cifar10": 10}[c.data.name]
    side = c.data.image_size or 32
    spec = Spec(model, c.model.width or default, classes, (side, side, 3))
    params, stats = models.shapes(spec)
    image = jax.ShapeDtypeStruct((2, side, side, 3), "uint8")
    logits, _ = jax.eval_shape(
        lambda p, s, x: models.build(spec).apply(p, s, x, True), params, stats, image
    )
    assert logits.shape == (2, classes)
    if spec.width == default and side == 32:
        assert sum(x.size for x in jax.tree.leaves(params)) == MILLIONS[model]


@pytest.mark.parametrize("name", NAMES)
def test_refuses_a_misspelt_field(name):
    with pytest.raises(
        config.ConfigError, match="'sparsty' is no field; the nearest is 'sparsity'"
    ):
        loaded(name, "--config.sparsty=0.5")


@pytest.mark.parametrize("name", NAMES)
def test_is_a_short_difference_that_opens_with_its_command(name):
    text = (ROOT / "configs" / name).read_text()
    command = f"\n    python -m cards_jax.main --config=configs/{name}"
    assert command in text.split('"""')[1]
    body = text.split('"""')[2]
    assert len(body.strip().splitlines()) <= 24
    assert "/" not in body, "paths are given on the command line"


@pytest.mark.parametrize("name", VARIANTS)
def test_the_argument_chooses_the_network_and_the_name(name):
    c = loaded(name)
    file, _, model = name.partition(":")
    assert c.model.name == model
    assert c.name == f"{file.split('_')[0]}_{model}"


def test_published_recipes():
    """The hyper-parameters of the public code that the configs name as their source."""
    recipe = lambda c: (c.learning_rate, c.weight_decay, c.batch_size, c.epochs, c.schedule.per)
    for method in ("bp", "ep", "dense"):
        assert recipe(loaded(f"{method}_resnet18.py")) == ((0.1,), (5e-4,), 256, 100, "epoch")
    for method in ("bp", "ep"):
        assert recipe(loaded(f"{method}_conv.py")) == ((0.1,), (1e-4,), 128, 100, "epoch")
    assert recipe(loaded("dense_conv.py")) == ((0.01,), (1e-4,), 128, 100, "epoch")


def test_matching_configs_share_everything_but_the_method():
    fields = [config.flat(loaded(f"{m}_resnet18.py")) for m in ("bp", "ep", "dense")]
    differ = {k for k in fields[0] if len({str(f[k]) for f in fields}) > 1}
    assert differ == {"name", "method", "sparsity"}
