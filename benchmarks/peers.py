"""PyTorch peers: the same networks, methods and batches, written several ways to measure against.

`original` is how the published code trains (default layout, an argsort of every layer's scores in
every step), `tuned` what a careful user makes of it (channels last, kthvalue, a one-piece gradient,
foreach SGD), `plain` is that in the default layout, `compiled` that under torch.compile, `augmix`
that on AugMix's views; `functional` trains all realizations at once with torch.func. All share the
layers, the starting weights and the batches below.

Each is called as `peer(network, method, batch_size, realizations, images, labels)`, with uint8 NHWC
images and integer labels, and returns `step()`, which trains every realization by one step on a
fresh batch each, blocks, and returns the last loss.
"""

import copy
import itertools
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from benchmarks.machine import cores
from benchmarks.pillow import pillow_views

SPARSITY = 0.5
SGD = {"momentum": 0.9, "weight_decay": 1e-4}
LEARNING_RATE = {"dense": 0.01, "lrr": 0.01, "ep": 0.1, "bp": 0.1}  # 0.1 makes dense Conv4 diverge
CONSISTENCY = 12.0  # weight of AugMix's Jensen-Shannon term
MEAN = torch.tensor([0.491, 0.482, 0.447])
STD = torch.tensor([0.247, 0.243, 0.262])


# Which weights pop up, and what they look like. A view maps (scores, weight, binarize) to the
# effective weight; every view has the gradient dL/ds = dL/dW * w * sign(s).


class ArgsortMask(Function):
    """1 for the largest scores, found by sorting; the gradient passes straight through."""

    @staticmethod
    def forward(ctx, magnitude: Tensor) -> Tensor:
        order = magnitude.flatten().argsort()
        mask = magnitude.new_empty(magnitude.numel())
        pruned = int(SPARSITY * magnitude.numel())
        mask[order[:pruned]] = 0
        mask[order[pruned:]] = 1
        return mask.view_as(magnitude)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient


class Gain(Function):
    """The mask times the mean magnitude of the kept weights; its gradient is that of |w| * mask."""

    @staticmethod
    def forward(ctx, mask: Tensor, magnitude: Tensor) -> Tensor:
        ctx.save_for_backward(magnitude)
        return mask * ((mask * magnitude).sum() / mask.sum())

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (magnitude,) = ctx.saved_tensors
        return gradient * magnitude, None


def argsort_view(scores: Tensor, weight: Tensor, binarize: bool) -> Tensor:
    """The originals' way: a chain of small differentiable pieces around a full sort."""
    mask = ArgsortMask.apply(scores.abs())
    return weight.sign() * Gain.apply(mask, weight.abs()) if binarize else weight * mask


class KthvaluePopup(Function):
    """Threshold by selection instead of a sort; the whole view and its gradient in one piece."""

    generate_vmap_rule = True

    @staticmethod
    def forward(scores: Tensor, weight: Tensor, binarize: bool) -> Tensor:
        magnitude = scores.abs()
        threshold = _flat(magnitude).kthvalue(int(SPARSITY * magnitude.numel()) + 1).values
        mask = magnitude >= threshold
        if not binarize:
            return weight * mask
        return mask * weight.sign() * ((mask * weight.abs()).sum() / mask.sum())

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        scores, weight = ctx.saved_tensors
        return gradient * weight * scores.sign(), None, None


def _flat(x: Tensor) -> Tensor:
    # In storage order: on a channels-last tensor a plain `flatten` would copy.
    return x.permute(0, 2, 3, 1).flatten() if x.stride(1) == 1 else x.flatten()


kthvalue_view = KthvaluePopup.apply


# Networks.


class Conv(nn.Module):
    """Bias-free convolution; `dense` trains the weight, `lrr` under a mask, `ep` and `bp` a score for each."""

    def __init__(self, method: str, view: Callable, inputs: int, outputs: int, size: int, stride=1):
        super().__init__()
        self.method, self.view = method, view
        self.stride, self.padding = stride, size // 2
        fan_in = inputs * size * size
        # Half of every sum is pruned away; without BatchNorm the scale must make up for it.
        trained = method in ("dense", "lrr")
        std = math.sqrt(2 / fan_in / (1 if trained else 1 - SPARSITY))
        weight = torch.randn(outputs, inputs, size, size) * std
        if method == "ep":
            weight = weight.sign() * std
        self.weight = nn.Parameter(weight, requires_grad=trained)
        if method == "lrr":
            self.register_buffer("mask", torch.ones_like(weight))
        if not trained:
            self.scores = nn.Parameter((2 * torch.rand_like(weight) - 1) / math.sqrt(fan_in))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        if self.method == "lrr":
            weight = weight * self.mask
        elif self.method != "dense":
            weight = self.view(self.scores, weight, self.method == "bp")
        return F.conv2d(x, weight, stride=self.stride, padding=self.padding)


class Block(nn.Module):
    """Two 3x3 convolutions with BatchNorm around a shortcut, projected where the shape changes."""

    def __init__(self, conv: Callable, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, outputs, 3, stride), _norm(outputs)
        self.conv2, self.bn2 = conv(outputs, outputs, 3), _norm(outputs)
        project = stride > 1 or inputs != outputs
        self.shortcut = nn.Sequential(
            *([conv(inputs, outputs, 1, stride), _norm(outputs)] if project else [])
        )

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


def _norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, affine=False)


def conv4(conv: Callable) -> nn.Module:
    """Two pairs of 3x3 convolutions, then three 1x1 convolutions on the flattened map."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 64), (64, 128)):
        layers += [conv(inputs, outputs, 3), nn.ReLU(), conv(outputs, outputs, 3), nn.ReLU()]
        layers += [nn.MaxPool2d(2)]
    layers += [nn.Flatten(), nn.Unflatten(1, (8192, 1, 1)), conv(8192, 256, 1), nn.ReLU()]
    layers += [conv(256, 256, 1), nn.ReLU(), conv(256, 10, 1), nn.Flatten()]
    return nn.Sequential(*layers)


def resnet(conv: Callable, width: int, stages: int, blocks: int) -> nn.Module:
    """CIFAR stem, stages of doubling width, a bias-free 1x1 convolution as the head."""
    layers: list[nn.Module] = [conv(3, width, 3), _norm(width), nn.ReLU()]
    inputs = width
    for stage in range(stages):
        outputs = width << stage
        for block in range(blocks):
            layers.append(Block(conv, inputs, outputs, 2 if stage and not block else 1))
            inputs = outputs
    pool = nn.AvgPool2d(32 >> (stages - 1))
    return nn.Sequential(*layers, pool, conv(inputs, 10, 1), nn.Flatten())


NETWORKS = {
    "conv4": conv4,
    "resnet20": partial(resnet, width=16, stages=3, blocks=3),
    "resnet18": partial(resnet, width=64, stages=4, blocks=2),
    "wrn18_2": partial(resnet, width=128, stages=4, blocks=2),
}


def deal(network: str, method: str, view: Callable, seed: int) -> nn.Module:
    """The network's starting point: a seed gives the same weights and scores whatever the view."""
    torch.manual_seed(seed)
    return NETWORKS[network](partial(Conv, method, view))


def multiply_adds(network: str) -> int:
    """Multiply-adds of one 32x32x3 image's forward pass, from the shapes of all convolutions."""
    net, total = deal(network, "dense", argsort_view, 0).to("meta").eval(), 0

    def count(layer: Conv, _, out: Tensor) -> None:
        nonlocal total
        total += out[0, 0].numel() * layer.weight.numel()

    for layer in net.modules():
        if isinstance(layer, Conv):
            layer.register_forward_hook(count)
    net(torch.empty(1, 3, 32, 32, device="meta"))
    return total


# Batches and steps.


def batches(images: np.ndarray, labels: np.ndarray, batch_size: int, device="cpu") -> Callable:
    """`draw() -> (float32 NCHW in channels-last strides, labels)`, cropped from padding 4, flipped.

    One gather from the resident uint8 images does selection, crop and flip.
    """
    padded = torch.from_numpy(np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)))).to(device)
    targets = torch.from_numpy(labels).long().to(device)
    side = torch.arange(images.shape[1], device=device)
    scale, shift = 1 / (255 * STD.to(device)), (MEAN / STD).to(device)

    def draw() -> tuple[Tensor, Tensor]:
        index = torch.randint(len(targets), (batch_size,), device=device)
        top, left = torch.randint(9, (2, batch_size, 1), device=device)
        flip = torch.rand(batch_size, 1, device=device) < 0.5
        rows, columns = top + side, left + torch.where(flip, side.flip(0), side)
        x = padded[index[:, None, None], rows[:, :, None], columns[:, None, :]]
        return (x.float() * scale - shift).permute(0, 3, 1, 2), targets[index]

    return draw


def _one_after_another(
    nets: list, rate: float, draw: Callable, layout, foreach: bool, compiled: bool = False
) -> Callable:
    nets = [net.train().to(memory_format=layout) for net in nets]
    run = [torch.compile(net) if compiled else net for net in nets]
    trained = [[p for p in net.parameters() if p.requires_grad] for net in nets]
    optimizers = [torch.optim.SGD(params, rate, foreach=foreach, **SGD) for params in trained]

    def step() -> float:
        for net, optimizer in zip(run, optimizers, strict=True):
            images, labels = draw()
            loss = _loss(net(images.contiguous(memory_format=layout)), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        return loss.item()

    return step


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy, and for AugMix's three views of each image, one after another, their consistency."""
    if len(logits) == len(labels):
        return F.cross_entropy(logits, labels)
    log_p = logits.unflatten(0, (-1, len(labels))).log_softmax(-1)
    log_mean = log_p.exp().mean(0).clamp(1e-7, 1).log()
    divergence = (log_p.exp() * (log_p - log_mean)).sum(-1).mean()
    return F.nll_loss(log_p[0], labels) + CONSISTENCY * divergence


def original(network, method, batch_size, realizations, images, labels) -> Callable[[], float]:
    """As the published code trains: NCHW, a sort of every layer's scores per step, looped SGD."""
    nets = [deal(network, method, argsort_view, seed) for seed in range(realizations)]
    draw = batches(images, labels, batch_size)
    rate, layout = LEARNING_RATE[method], torch.contiguous_format
    return _one_after_another(nets, rate, draw, layout, foreach=False)


def tuned(network, method, batch_size, realizations, images, labels) -> Callable[[], float]:
    """Channels last, kthvalue, one-piece gradient, foreach SGD."""
    nets = [deal(network, method, kthvalue_view, seed) for seed in range(realizations)]
    draw = batches(images, labels, batch_size)
    rate, layout = LEARNING_RATE[method], torch.channels_last
    return _one_after_another(nets, rate, draw, layout, foreach=True)


def plain(network, method, batch_size, realizations, images, labels) -> Callable[[], float]:
    """`tuned` in PyTorch's default layout."""
    nets = [deal(network, method, kthvalue_view, seed) for seed in range(realizations)]
    draw = batches(images, labels, batch_size)
    rate, layout = LEARNING_RATE[method], torch.contiguous_format
    return _one_after_another(nets, rate, draw, layout, foreach=True)


def compiled(network, method, batch_size, realizations, images, labels) -> Callable[[], float]:
    """`tuned` under torch.compile, which needs a C++ compiler."""
    nets = [deal(network, method, kthvalue_view, seed) for seed in range(realizations)]
    draw = batches(images, labels, batch_size)
    rate, layout = LEARNING_RATE[method], torch.channels_last
    return _one_after_another(nets, rate, draw, layout, foreach=True, compiled=True)


def augmix(network, method, batch_size, realizations, images, labels) -> Callable[[], float]:
    """`tuned` on three views of each image, made by Pillow in workers of a data loader, one per core."""
    nets = [deal(network, method, kthvalue_view, seed) for seed in range(realizations)]
    rate, layout = LEARNING_RATE[method], torch.channels_last
    loader = DataLoader(
        _Mixed(images, labels),
        batch_size,
        shuffle=True,
        num_workers=cores(),
        persistent_workers=True,
        drop_last=True,
    )
    supply = itertools.chain.from_iterable(itertools.repeat(loader))

    def draw() -> tuple[Tensor, Tensor]:
        views, wanted = next(supply)  # (B, 3, H, W, C)
        x = views.transpose(0, 1).flatten(0, 1)
        return ((x - MEAN) / STD).permute(0, 3, 1, 2), wanted

    return _one_after_another(nets, rate, draw, layout, foreach=True)


class _Mixed(Dataset):
    """The views of augment.pillow_views, made when they are asked for."""

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        from PIL import Image

        rng = np.random.default_rng(torch.randint(2**31, ()).item())
        views = pillow_views(rng, Image.fromarray(self.images[i]))
        return views.astype(np.float32), int(self.labels[i])


def functional(network, method, batch_size, realizations, images, labels) -> Callable[[], float]:
    """All realizations at once: vmap over each one's gradient, foreach SGD on the stack."""
    nets = [deal(network, method, kthvalue_view, seed).train() for seed in range(realizations)]
    gradients, trained = ensemble(nets)
    rate = LEARNING_RATE[method]
    optimizer = torch.optim.SGD(list(trained.values()), rate, foreach=True, **SGD)
    draw = batches(images, labels, batch_size * realizations)

    def step() -> float:
        images, labels = draw()
        split = images.contiguous().unflatten(0, (realizations, batch_size))
        grads, losses = gradients(split, labels.unflatten(0, (realizations, batch_size)))
        for name, value in trained.items():
            value.grad = grads[name]
        optimizer.step()
        return losses[-1].item()

    return step


def ensemble(nets: list[nn.Module]) -> tuple[Callable, dict[str, Tensor]]:
    """`gradients(images_RBCHW, labels_RB) -> (gradients by name, losses_R)`, and what they move."""
    stacked, buffers = stack_module_state(nets)
    trained = {name: p.detach() for name, p in stacked.items() if p.requires_grad}
    frozen = {name: p for name, p in stacked.items() if not p.requires_grad}
    skeleton = copy.deepcopy(nets[0]).to("meta")

    def loss(trained, frozen, buffers, images, labels):
        logits = functional_call(skeleton, (trained, frozen, buffers), (images,))
        return F.cross_entropy(logits, labels)

    mapped = vmap(grad_and_value(loss))
    return lambda images, labels: mapped(trained, frozen, buffers, images, labels), trained
