"""The benchmark's peers agree with each other, and the contest measures what happened."""

import math
import os
import signal
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import __main__ as suite  # noqa: E402
from benchmarks.contest import Contestant, Failed, apart, hold, ratios  # noqa: E402
from benchmarks.suite import Options, Table, layers, parts, times  # noqa: E402
from benchmarks.suite.program import Program  # noqa: E402
from benchmarks.train import parse, save  # noqa: E402


def sleeper(pause: float):
    return lambda steps: time.sleep(pause * steps)


def broken(how: str):
    def run(steps: int) -> None:
        if how == "raises":
            raise FloatingPointError("the loss is nan")
        os.kill(os.getpid(), signal.SIGKILL)

    return run


def reporter(folder: str, name: str):
    """Writes its process and the moments between which it ran."""

    def run(steps: int) -> None:
        began = time.monotonic()
        time.sleep(0.01 * steps)
        with open(f"{folder}/{name}", "a") as file:
            file.write(f"{os.getpid()} {began} {time.monotonic()}\n")

    return run


def calling(pause: float):
    """What a call costs, whatever it does."""
    return lambda steps: time.sleep(pause)


def test_a_turn_has_at_least_the_steps_that_a_contestant_asks_for():
    found = [Contestant(str(n), calling, 1.0, {"pause": 0.05}, n) for n in (1, 20)]
    rates, _ = hold(found, 2, 0.05, lambda text: None)
    assert 300 < rates["20"][0] <= 400
    assert rates["1"][0] <= 40


@pytest.mark.parametrize("together", [False, True])
def test_rates_are_work_per_second_and_failures_leave_the_others_alone(together):
    contestants = [
        Contestant("fast", sleeper, 3.0, {"pause": 0.01}),
        Contestant("raises", broken, 1.0, {"how": "raises"}),
        Contestant("slow", sleeper, 3.0, {"pause": 0.02}),
        Contestant("killed", broken, 1.0, {"how": "killed"}),
    ]
    said = []
    rates, failures = hold(contestants, 3, 0.1, said.append, together)
    assert set(rates) == {"fast", "slow"} and [len(r) for r in rates.values()] == [2, 2]
    assert all(200 < rate <= 300 for rate in rates["fast"])
    assert all(1.5 < x < 2.5 for x in ratios(rates, "fast", "slow"))
    assert failures == {
        "raises": "FloatingPointError: the loss is nan",
        "killed": "its process ended with exit code -9",
    }


def test_turns_go_round_in_separate_processes(tmp_path):
    names = ["A", "B"]
    contestants = [
        Contestant(n, reporter, 1.0, {"folder": str(tmp_path), "name": n}) for n in names
    ]
    hold(contestants, 3, 0.05, lambda _: None)
    turns = [
        (float(began), float(ended), name, pid)
        for name in names
        for pid, began, ended in (x.split() for x in (tmp_path / name).read_text().splitlines())
    ]
    turns.sort()
    assert len({pid for *_, pid in turns} | {str(os.getpid())}) == 3
    assert all(a[1] <= b[0] for a, b in zip(turns, turns[1:], strict=False))
    assert [name for *_, name, _ in turns][-4:] == ["A", "B", "A", "B"]


def test_options_follow_from_each_other():
    args = parse(["--network=resnet18", "--realizations=2,1"])
    assert (args.batch_size, args.realizations, args.shared) == (32, (2, 1), 2)
    assert parse([]).shared == 4


@pytest.mark.parametrize("bad", ["--realizations=0", "--batch-size=-3", "--network=conv5"])
def test_bad_options_end_with_one_line(bad, capsys):
    with pytest.raises(SystemExit) as ended:
        parse([bad])
    assert ended.value.code == 2 and bad.split("=")[0] in capsys.readouterr().err


def test_saved_rates_are_those_measured(tmp_path):
    save(tmp_path / "speed.v1", "text\n", {"a, b": [1.25, 2.5]})
    assert (tmp_path / "speed.v1.md").read_text() == "text\n"
    rows = (tmp_path / "speed.v1.csv").read_text().splitlines()
    assert rows[1:] == ['"a, b",1,1.25', '"a, b",2,2.5']


def own_process(shared: int) -> tuple[int, int]:
    return os.getpid(), shared


def test_a_task_runs_apart_and_says_why_it_failed():
    process, shared = apart(own_process, shared=3)
    assert shared == 3 and process != os.getpid()
    with pytest.raises(Failed, match="^TypeError: "):
        apart(int, x="no keyword")


# --- the suite


def test_tables_show_every_column_and_gaps():
    table = Table("T", [{"a": 1.23456, "b": "x"}, {"a": None, "c": 12345.6}], ["note"])
    assert table.markdown().splitlines() == [
        "## T",
        "",
        "| a | b | c |",
        "|---|---|---|",
        "| 1.23 | x | - |",
        "| - | - | 12346 |",
        "",
        "note",
    ]
    assert table.csv().splitlines() == ["table,a,b,c", "T,1.23456,x,", "T,,,12345.6"]


def test_times_are_medians_within_rounds():
    rates = {"a": [2.0, 6.0, 4.0], "b": [1.0, 2.0, 4.0]}
    assert times(rates, "a", "b") == "2.00 (1.00 to 3.00)"
    assert times(rates, "a", "gone") is None


def test_the_time_of_what_is_nested_counts_once():
    line = [(0, 10, "while"), (1, 3, "dot"), (5, 4, "dot"), (6, 1, "inner"), (20, 5, "while")]
    assert parts.self_times([line, [(0, 2, "dot")]]) == {"while": 8, "dot": 8, "inner": 1}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("jit(f)/while/body/jvp(selection)/while/body/scatter-add", "selection"),
        ("jit(f)/while/body/transpose(jvp(ConvNet))/conv2/while/body/dot_general", "convolutions"),
        ("jit(f)/while/body/jvp(ResNet)/layer1_0/bn1/mul", "BatchNorm"),
        ("jit(f)/while/body/jvp(ResNet)/layer2_0/shortcut_conv/dot_general", "convolutions"),
        ("jit(f)/while/body/optimizer/mul", "optimizer"),
        ("jit(f)/while/body/transpose(jvp(ConvNet))/max", "activations, pooling, sums"),
        ("jit(f)/while/body/add", "other"),
    ],
)
def test_operations_are_told_apart_by_their_source(name, kind):
    program = (
        f'  %fusion.1 = f32[2]{{0}} fusion(%a), metadata={{op_name="{name}" stack_frame_id=3}}'
    )
    assert parts.operations(program) == {"fusion.1": name}
    assert parts.kind_of(name) == kind


def test_shapes_of_layers_are_those_of_the_networks():
    """All multiply-adds but those of the linear layers, and of the blocks that repeat a shape."""
    once = {s: s.flop // (2 * s.batch) for s in layers.NETWORKS["conv4"]}
    assert sum(once.values()) == 98_306_560 - (8192 * 256 + 256 * 256 + 256 * 10)
    times = {"resnet18": ([1, 4], [1, 1, 3]), "resnet20": ([1, 6], [1, 1, 5])}
    totals = {"resnet18": 555_422_720 - 5120, "resnet20": 40_813_184 - 640}
    for network, (stem, stage) in times.items():
        shapes = layers.NETWORKS[network]
        counts = stem + stage * ((len(shapes) - 2) // 3)
        each = zip(counts, shapes, strict=True)
        assert sum(n * s.flop // (2 * s.batch) for n, s in each) == totals[network]


def test_parts_are_saved_as_they_end(tmp_path, capsys):
    def broken(options: Options) -> list[Table]:
        raise RuntimeError("no")

    given = {"train": lambda o: [Table("A", [{"x": 1}])], "parts": broken}
    given["layers"] = lambda o: [Table("B", [{"y": 2}])]
    program = Program("benchmarks", "Some.", given, needs_torch=False)
    folder = tmp_path / "new" / "results"
    assert program.main([f"--save={folder}"]) == 1
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        ["README.md", "train.md", "train.csv", "layers.md", "layers.csv"]
    )
    assert (folder / "layers.csv").read_text() == "table,y\nB,2\n"
    assert program.main([f"--save={folder}", "--only=layers"]) == 0
    page = (folder / "README.md").read_text()
    assert "# train" in page and "# layers" in page
    assert "not everything could be measured: parts" in capsys.readouterr().err


def test_unknown_parts_end_with_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        suite.PROGRAM.parse(["--only=train,lunch"])
    assert ended.value.code == 2 and "'lunch' is no part" in capsys.readouterr().err


def test_networks_are_chosen_where_a_program_has_them(capsys):
    from benchmarks.accelerator import __main__ as accelerator
    from benchmarks.accelerator.convolutions import shapes

    seen = []
    given = {"train": lambda o: seen.append(o) or []}
    known = tuple(layers.NETWORKS)
    program = Program("benchmarks", "Some.", given, False, networks=known, together=True)
    assert program.main(["--networks=resnet20,conv4", "--together"]) == 0
    assert seen[0].networks == ("resnet20", "conv4") and seen[0].together
    assert {*shapes(("conv4",))} < {*shapes()} == {*shapes(None)}
    with pytest.raises(SystemExit):
        accelerator.main(["--networks=lunch"])
    assert "'lunch' is no network; allowed are conv4" in capsys.readouterr().err


def test_a_plan_takes_the_fastest_way_of_each_network(tmp_path):
    from benchmarks import plan

    path = tmp_path / "training.csv"
    rows = ["conv4,a,2", "conv4,b,3", "conv4,c,", "resnet20,a,5"]
    path.write_text("\n".join(["network,training,images/s x R", *rows]))
    conv, res = plan.accelerated(path)
    assert "conv4: 3 images/s" in conv.source and "(b; training.csv)" in conv.source
    # Multiply-adds of one image, as in test_multiply_adds, and three of a step.
    assert conv.flops == pytest.approx(3 * 6 * 98_306_560, rel=0.01)
    assert res.flops == pytest.approx(5 * 6 * 40_813_184, rel=0.01)


# --- the peers


@pytest.fixture(scope="module")
def peers():
    pytest.importorskip("torch", reason="needs PyTorch, of the extra 'bench'")
    from benchmarks import peers

    return peers


def test_multiply_adds(peers):
    conv = [64 * 27 * 1024, 64 * 576 * 1024, 128 * 576 * 256, 128 * 1152 * 256]
    head = [8192 * 256, 256 * 256, 256 * 10]
    assert peers.multiply_adds("conv4") == sum(conv + head)
    assert peers.multiply_adds("resnet18") == 555_422_720
    assert peers.multiply_adds("resnet20") == 40_813_184


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dense", "ep", "bp"])
@pytest.mark.parametrize("network", ["conv4", "resnet18"])
def test_peers_have_equal_loss_and_gradient(peers, network, method):
    import torch

    # float64: in float32 scores tie at the threshold, and rounding flips a few ReLUs.
    torch.set_default_dtype(torch.float64)
    try:
        images = torch.randn(2, 2, 3, 32, 32)
        labels = torch.randint(10, (2, 2))
        nets = [peers.deal(network, method, peers.kthvalue_view, seed) for seed in range(2)]
        gradients, trained = peers.ensemble([net.train() for net in nets])
        stacked, losses = gradients(images, labels)
        assert len(trained) == {"conv4": 7, "resnet18": 21}[network]
        layouts = (torch.contiguous_format, torch.channels_last)
        for view, layout in zip((peers.argsort_view, peers.kthvalue_view), layouts, strict=True):
            for seed in range(2):
                net = peers.deal(network, method, view, seed).train().to(memory_format=layout)
                logits = net(images[seed].contiguous(memory_format=layout))
                loss = torch.nn.functional.cross_entropy(logits, labels[seed])
                loss.backward()
                torch.testing.assert_close(loss.detach(), losses[seed], rtol=1e-9, atol=0)
                for name in trained:
                    ours, theirs = net.get_parameter(name).grad, stacked[name][seed]
                    assert (ours - theirs).abs().max() < 1e-9 * theirs.abs().max()
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("method", ["ep", "bp"])
def test_views_keep_half_and_pass_the_gradient_through(peers, method):
    import torch

    torch.manual_seed(0)
    weight, count = torch.randn(6, 5, 3, 3), 270
    scores = (torch.randperm(count) + 1.0).view_as(weight) * torch.randn_like(weight).sign()
    scores.requires_grad_()
    gradient = torch.randn_like(weight)
    kept = scores.detach().abs() > count // 2
    gain = weight.abs()[kept].mean()
    expected = kept * (weight.sign() * gain if method == "bp" else weight)
    for view in (peers.argsort_view, peers.kthvalue_view):
        effective = view(scores, weight, method == "bp")
        torch.testing.assert_close(effective, expected)
        (got,) = torch.autograd.grad(effective, scores, gradient)
        torch.testing.assert_close(got, gradient * weight * scores.detach().sign())


@pytest.mark.slow
@pytest.mark.parametrize("peer", ["original", "plain", "tuned", "functional"])
def test_steps_learn(peers, peer):
    from benchmarks.steps import images_and_labels

    images, labels = images_and_labels(1)
    step = getattr(peers, peer)("conv4", "ep", 20, 2, images[:20], labels[:20])
    first = step()
    losses = [step() for _ in range(11)]
    assert math.isfinite(losses[-1]) and losses[-1] < first


def test_peers_of_heatmaps_perturb_with_our_waves():
    torch = pytest.importorskip("torch", reason="needs PyTorch, of the extra 'bench'")
    from benchmarks import torch_heatmap
    from cards_jax import fourier

    for k, theirs in enumerate(torch_heatmap.waves(8)):
        ours = fourier.wave(*fourier.frequencies(8, 8)[k], 8, 8)
        torch.testing.assert_close(theirs, torch.tensor(ours.tolist()), atol=1e-6, rtol=0)


QUICK = Options(quick=True, say=lambda text: None)


@pytest.mark.slow
def test_the_parts_about_an_accelerator_run_on_any_device():
    from benchmarks.accelerator import convolutions, heatmap, peaks, selection

    (products,) = peaks.run(QUICK)
    assert [row["precision"] for row in products.rows] == ["float32", "TF32", "bfloat16"]
    assert all(row["TFLOP/s"] > 0 for row in products.rows)
    alone, together = convolutions.run(QUICK)
    assert len(alone.rows) == len(together.rows) == 9  # 3 pieces x 3 precisions
    assert all(row["native"] > 0 and row["patches"] > 0 for row in alone.rows)
    assert all(row[row["best"]] == max(row["native"], row["patches"]) for row in alone.rows)
    assert all(row["unrolled"] > 0 for row in together.rows)
    (found,) = selection.run(QUICK)
    assert {(row["R"], row["selection"]) for row in found.rows} == {
        (r, s) for r in (1, 5) for s in ("histogram", "bisection", "sort")
    }
    (maps,) = heatmap.run(QUICK)
    assert maps.rows[0]["s per card"] > 0


def test_shapes_of_all_networks_are_measured_once_at_one_batch():
    from benchmarks.accelerator.convolutions import BATCH, shapes

    assert len(set(shapes())) == len(shapes()) == 20
    assert {shape.batch for shape in shapes()} == {BATCH}
