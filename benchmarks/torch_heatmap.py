"""Fourier heatmaps in PyTorch: the usual way and a tuned one; both take one wave after another.

Each is called as `peer(images, labels, eps, batch_size)`, with uint8 NHWC images, and returns `run(n)`, which counts
the errors of a dense Conv4 under the first n of the 514 distinct waves.
"""

import itertools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks import peers
from benchmarks.machine import cores
from cards_jax import fourier


def wave(u: int, v: int, side: int) -> Tensor:
    """(side, side), of norm 1, as the originals make it: the inverse FFT of a pair of coefficients."""
    spectrum = torch.zeros(side, side, dtype=torch.complex64)
    spectrum[u % side, v % side] = 0.5 + 0.5j
    spectrum[-u % side, -v % side] = 0.5 - 0.5j
    if (-u % side, -v % side) == (u % side, v % side):
        spectrum[u % side, v % side] = 1
    found = torch.fft.ifft2(spectrum).real
    return found / found.norm()


def waves(side: int) -> list[Tensor]:
    """All that are distinct."""
    return [wave(int(u), int(v), side) for u, v in fourier.frequencies(side, side)]


def network() -> nn.Module:
    """Conv4, as all contestants run it."""
    return peers.deal("conv4", "dense", peers.kthvalue_view, 0).eval()


class Perturbed(Dataset):
    """Images with noise that is added one by one, when they are asked for."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, noise: Tensor):
        self.images, self.labels, self.noise = images, labels, noise

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        image = torch.from_numpy(self.images[i]).permute(2, 0, 1).float() / 255
        sign = torch.randint(2, (len(image), 1, 1)) * 2.0 - 1
        noisy = (image + sign * self.noise).clamp(0, 1)
        normalised = (noisy - peers.MEAN[:, None, None]) / peers.STD[:, None, None]
        return normalised, int(self.labels[i])


def usual(images: np.ndarray, labels: np.ndarray, eps: float, batch_size: int) -> Callable:
    """A DataLoader with a worker per core, anew for every wave."""
    net, all_waves = network(), waves(images.shape[1])

    def run(steps: int) -> None:
        with torch.inference_mode():
            for one in itertools.islice(itertools.cycle(all_waves), steps):
                data = Perturbed(images, labels, eps * one)
                # Forked, as in a script: a spawned worker would import torch for every wave.
                loader = DataLoader(
                    data, batch_size, num_workers=cores(), multiprocessing_context="fork"
                )
                sum((net(x).argmax(1) != y).sum().item() for x, y in loader)

    return run


def tuned(images: np.ndarray, labels: np.ndarray, eps: float, batch_size: int) -> Callable:
    """Channels-last images and weights in memory, noise for a whole batch."""
    net, all_waves = network().to(memory_format=torch.channels_last), waves(images.shape[1])
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    x = x.contiguous(memory_format=torch.channels_last)
    y = torch.from_numpy(labels).long()
    mean, std = peers.MEAN[:, None, None], peers.STD[:, None, None]

    def run(steps: int) -> None:
        with torch.inference_mode():
            for one in itertools.islice(itertools.cycle(all_waves), steps):
                wrong = 0
                for images, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
                    sign = torch.randint(2, (len(images), 3, 1, 1)) * 2.0 - 1
                    noisy = (images + sign * (eps * one)).clamp_(0, 1).sub_(mean).div_(std)
                    wrong += (net(noisy).argmax(1) != labels).sum()
                int(wrong)

    return run
