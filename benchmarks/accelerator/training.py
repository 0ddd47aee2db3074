"""Training in bfloat16 on the device beside PyTorch in bfloat16, channels last and compiled."""

import functools
from collections.abc import Callable

from benchmarks.accelerator.convolutions import FORMULATIONS
from benchmarks.accelerator.peaks import QUICK_SIDE, SIDE, flop, product
from benchmarks.contest import Contestant
from benchmarks.steps import Case, contestant, images_and_labels
from benchmarks.suite import Options, Table, contest, failed, median, times

BATCH, SEEDS, STEPS = 128, 5, 40
CASES = (("conv4", "dense"), ("resnet20", "dense"), ("resnet18", "dense"), ("resnet18", "ep"))
QUICK_CASES = (("resnet20", "dense"),)
WANTED = {"conv4": 1.5, "resnet20": 4.0, "resnet18": 1.2}  # times PyTorch
PEAK, TORCH = "matrix product, bfloat16", "torch bfloat16, channels last, compiled"


def torch_training(
    network: str, method: str, batch_size: int, compiled: bool
) -> Callable[[int], None]:
    """A contestant: one network, as fast as one after another."""
    import math

    import torch

    from benchmarks import peers

    device = "cuda" if torch.cuda.is_available() else "cpu"
    last = torch.channels_last
    draw = peers.batches(*images_and_labels(batch_size), batch_size, device)
    net = peers.deal(network, method, peers.kthvalue_view, 0).train()
    net = net.to(device, memory_format=last)
    run_net = torch.compile(net) if compiled else net
    trained = [p for p in net.parameters() if p.requires_grad]
    rate = peers.LEARNING_RATE[method]
    optimizer = torch.optim.SGD(trained, rate, foreach=True, **peers.SGD)

    def step():
        images, labels = draw()
        with torch.autocast(device, dtype=torch.bfloat16):
            logits = run_net(images.contiguous(memory_format=last))
        loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss

    def run(steps: int) -> None:
        for _ in range(steps):
            loss = step()
        if not math.isfinite(loss.item()):  # waits for the device
            raise FloatingPointError(f"the loss is {loss.item()}")

    return run


def run(options: Options) -> list[Table]:
    """A row for each network and method: R = 1 and 5 beside PyTorch, with the share of the peak."""
    from benchmarks.peers import multiply_adds

    rows, notes = [], []
    size, side = (4, QUICK_SIDE) if options.quick else (BATCH, SIDE)
    chosen = [c for c in CASES if c[0] in (options.networks or WANTED)]
    for network, method in QUICK_CASES if options.quick else chosen:
        case = functools.partial(Case, network, method, size, dtype="bfloat16", accelerator=True)
        cases = [case(2)] if options.quick else [case(1)]
        if not options.quick:
            cases += [case(SEEDS, convolution=how) for how in FORMULATIONS[SEEDS]]
        found = [Contestant(PEAK, product, flop(side), {"side": side, "precision": "bfloat16"})]
        found += [Contestant(c.name, contestant, c.images, {"case": c}, STEPS) for c in cases]
        arguments = {
            "network": network,
            "method": method,
            "batch_size": size,
            "compiled": not options.quick,
        }
        found.append(Contestant(TORCH, torch_training, size, arguments, STEPS))
        rates, failures = contest(found, options)
        notes += failed({f"{network}, {method}, {k}": v for k, v in failures.items()})
        peak, of_image = median(rates, PEAK), 6 * multiply_adds(network)
        for c in cases:
            rate = median(rates, c.name)
            options.say(f"{network}, {c.name}: {rate} images/s, PyTorch {median(rates, TORCH)}")
            rows.append(
                {
                    "network": network,
                    "training": c.name,
                    "images/s x R": rate,
                    "share of the bfloat16 peak": f"{of_image * rate / peak:.1%}"
                    if rate and peak
                    else None,
                    "PyTorch, images/s": median(rates, TORCH),
                    "times as fast": times(rates, c.name, TORCH),
                    "wanted": WANTED[network] if c.realizations == SEEDS else None,
                }
            )
    compiled = " (not compiled here)" if options.quick else ""
    note = (
        f"Batch {size}; PyTorch{compiled} trains one network after another. Medians of interleaved rounds, ratios "
        "within a round. An image counts six times its multiply-adds."
    )
    return [Table("Training", rows, [note, *notes])]
