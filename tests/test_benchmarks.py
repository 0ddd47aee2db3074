"""The benchmark's peers agree with each other, and the contest measures what happened."""

import math
import os
import signal
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.contest import Contestant, hold, ratios  # noqa: E402
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


def test_rates_are_work_per_second_and_failures_leave_the_others_alone():
    contestants = [
        Contestant("fast", sleeper, 3.0, {"pause": 0.01}),
        Contestant("raises", broken, 1.0, {"how": "raises"}),
        Contestant("slow", sleeper, 3.0, {"pause": 0.02}),
        Contestant("killed", broken, 1.0, {"how": "killed"}),
    ]
    said = []
    rates, failures = hold(contestants, 3, 0.1, said.append)
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
@pytest.mark.parametrize("peer", ["original", "tuned", "functional"])
def test_steps_learn(peers, peer):
    from benchmarks.train import images_and_labels

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
