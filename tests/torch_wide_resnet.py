"""AugMix's and RobustBench's WideResNet in PyTorch, with the module names of the code that it was published in."""

import torch
from torch import nn
from torch.nn import functional as F


def conv(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, outputs, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), conv(outputs, outputs)
        self.convShortcut = conv(inputs, outputs, 1, stride) if inputs != outputs else None

    def forward(self, x):
        active = F.relu(self.bn1(x))
        y = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return y + (x if self.convShortcut is None else self.convShortcut(active))


class Stage(nn.Module):
    def __init__(self, blocks: int, inputs: int, outputs: int, stride: int):
        super().__init__()
        rest = [Block(outputs, outputs, 1) for _ in range(blocks - 1)]
        self.layer = nn.Sequential(Block(inputs, outputs, stride), *rest)

    def forward(self, x):
        return self.layer(x)


class WideResNet(nn.Module):
    def __init__(self, blocks: int, width: int, classes: int):
        super().__init__()
        self.conv1 = conv(3, 16)
        self.block1 = Stage(blocks, 16, width, 1)
        self.block2 = Stage(blocks, width, 2 * width, 2)
        self.block3 = Stage(blocks, 2 * width, 4 * width, 2)
        self.bn1, self.fc = nn.BatchNorm2d(4 * width), nn.Linear(4 * width, classes)

    def forward(self, x):
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(F.avg_pool2d(F.relu(self.bn1(x)), 8).flatten(1))


def shapes(network: nn.Module) -> list:
    """Sorted (key, shape) pairs of what holds numbers."""
    arrays = sorted(network.state_dict().items())
    return [(key, tuple(x.shape)) for key, x in arrays if not key.endswith("num_batches_tracked")]


def logits(network: nn.Module, arrays: dict, images_NHWC):
    """Of images in evaluation mode, with these arrays in the network."""
    network.load_state_dict({k: torch.as_tensor(x) for k, x in arrays.items()}, strict=False)
    with torch.no_grad():
        return network.eval()(torch.as_tensor(images_NHWC).permute(0, 3, 1, 2)).numpy()
