"""The memory that a group is planned with, against what its compiled program takes."""

import jax
import numpy as np
import pytest
import small

from cards_jax import config, estimate, memory, realizations, run, train
from cards_jax.estimate import Need
from cards_jax.trainer import Trainer, recipe_of, spec_of


def test_activations_count_once_in_a_loop():
    need = Need(state=1, work=30)
    assert need.of(1, loop=True) == 32 and need.of(1, loop=False) == 31
    assert need.of(4, loop=True) == 38 and need.of(4, loop=False) == 124
    assert need.fit(38, loop=True) == 4 and need.fit(37.9, loop=True) == 3
    assert need.fit(124, loop=False) == 4 and need.fit(123, loop=False) == 3
    assert need.fit(1, loop=True) == need.fit(1, loop=False) == 1


@pytest.mark.parametrize(("loop", "size"), [(True, 8), (False, 2)])
def test_a_group_fills_the_devices_it_has(monkeypatch, loop, size):
    monkeypatch.setattr(estimate, "free_bytes", lambda: 38 / estimate.HEADROOM)
    need = Need(state=1, work=30)
    assert estimate.group_size(need, 100, 2, loop) == size
    assert estimate.group_size(need, 1, 2, loop) == 1


def test_memory_that_files_fill_is_free():
    """Linux keeps what was read from disks until somebody needs the memory."""
    assert 0 < estimate.free_bytes() * jax.local_device_count() < 2**50


def test_views_count_as_images():
    found = []
    for c in (small.tiny(augment="standard"), small.tiny(augment="augmix")):
        recipe = recipe_of(c, spec_of(c, small.data()), realizations.layout(1, 1, c.batch_size, 1))
        found.append(estimate.step_flops(recipe))
    one, three = found
    assert three == 3 * one > 0


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(text))


def test_a_container_has_what_its_group_leaves(tmp_path, monkeypatch):
    """Its limit, or that of a group above it, less what is used; files that nobody looks at give way."""
    monkeypatch.setattr(memory, "PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "CGROUP", tmp_path / "cg")
    write(tmp_path / "proc/meminfo", "MemTotal: 99 kB\nMemAvailable:  80 kB\n")
    assert memory.free() == 80 * 1024
    write(tmp_path / "proc/self/cgroup", "0::/job/step\n")
    write(tmp_path / "cg/job/step/memory.max", "max")
    write(tmp_path / "cg/job/step/memory.current", 7)
    assert memory.free() == 80 * 1024
    write(tmp_path / "cg/job/memory.max", 5000)
    write(tmp_path / "cg/job/memory.current", 3000)
    assert memory.free() == 2000
    write(tmp_path / "cg/job/memory.stat", "anon 5\ninactive_file 600\nactive_file 9\n")
    assert memory.free() == 2600
    write(tmp_path / "proc/self/cgroup", "3:cpu,memory:/old\n")
    write(tmp_path / "cg/memory/old/memory.limit_in_bytes", 900)
    write(tmp_path / "cg/memory/old/memory.usage_in_bytes", 1000)
    assert memory.free() == 0


def test_systems_that_do_not_tell_what_is_free(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "PROC", tmp_path)
    known = {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}

    def sysconf(name):
        if name not in known:
            raise ValueError("unrecognized configuration name")
        return known[name]

    monkeypatch.setattr(memory.os, "sysconf", sysconf)
    assert memory.free() == 500 * 4096
    known.clear()
    assert memory.free() == memory.UNKNOWN


def compiled_bytes(c, mapping: str) -> tuple[int, Need]:
    """(memory of the compiled training steps beside the images, the estimate for one realization)."""
    points = config.points(c)
    layout = realizations.layout(len(points), 0, c.batch_size, 1, mapping=mapping)
    t = Trainer(c, small.data(side=32), layout)
    group = t.group(points)
    stage = group.stages[0]
    bounds = layout.replicate(np.int32([0, 2, 1]))
    args = (t.state_like(group, 0), stage.scalars, stage.keep, stage.clock, bounds, *t._train)
    mapped = (True, True, True, False, False, False, False)
    steps = lambda *args: train.chunk(*args, recipe=t.recipe, rules=stage.phase.rules)
    found = layout.map(steps, mapped, (0,)).lower(*args).compile().memory_analysis()
    beside = found.argument_size_in_bytes - sum(x.nbytes for x in t._train)
    new = found.output_size_in_bytes - found.alias_size_in_bytes
    return beside + new + found.temp_size_in_bytes, estimate.need_of(c, t.recipe, stage.phase)


@pytest.mark.parametrize(("mapping", "count"), [("loop", 6), ("vmap", 2)])
@pytest.mark.slow
def test_the_estimate_is_that_of_the_compiled_program(mapping, count):
    """Within a factor of two, for a network whose activations are most of what it needs."""
    c = small.tiny(seeds=tuple(range(count)), augment="plain", batch_size=32, model__width=4)
    found, need = compiled_bytes(c, mapping)
    assert found / 2 < need.of(count, mapping == "loop") < 2 * found
    if (
        mapping == "loop"
    ):  # a loop that is planned with the activations of all is planned far too large
        assert need.of(count, loop=False) > 2 * found


def test_the_automatic_group_of_a_cpu_holds_more_than_one_after_another(monkeypatch):
    """Where memory is for the activations of one realization and the states of six, six are trained."""
    c = small.tiny(seeds=tuple(range(6)), augment="plain", batch_size=32, model__width=4)
    c.compute.devices = 1
    d = small.data(side=32)
    whole = realizations.layout(6, 0, c.batch_size, 1)
    recipe = run.recipe_of(c, run.spec_of(c, d), whole)
    phase = run.phases_of(c, config.points(c), run.steps_per_epoch(c, d))[0]
    need = estimate.need_of(c, recipe, phase)
    monkeypatch.setattr(estimate, "free_bytes", lambda: 1.01 * need.of(6, loop=True) / 0.6)
    for mapping, group in (("loop", 6), ("vmap", 1)):
        c.compute.mapping = mapping
        assert run.layout_of(c, d, 6).group == group
