"""Three of the originals' networks in PyTorch, with the module names and layouts of the code they were published in."""

import torch
from torch import nn
from torch.nn import functional as F


def conv(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


class Basic(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = conv(outputs, outputs), nn.BatchNorm2d(outputs)
        self.downsample = nn.Sequential()
        if inputs != outputs:
            self.downsample = nn.Sequential(
                conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.downsample(x))


class ResNet18(nn.Module):
    """RobustBench's class of the CARDs made by learning-rate rewinding."""

    def __init__(self, width: int, classes: int):
        super().__init__()
        self.conv1, self.bn1 = conv(3, width), nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(Basic(width, width, 1), Basic(width, width, 1))
        for stage in (2, 3, 4):
            w = width << (stage - 1)
            setattr(self, f"layer{stage}", nn.Sequential(Basic(w // 2, w, 2), Basic(w, w, 1)))
        self.fc = nn.Linear(8 * width, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(F.avg_pool2d(x, 4).flatten(1))


class PreAct(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.bn1, self.conv1 = norm(inputs), conv(inputs, outputs, 3, stride)
        self.bn2, self.conv2 = norm(outputs), conv(outputs, outputs)
        self.shortcut = nn.Sequential()
        if inputs != outputs:
            self.shortcut = nn.Sequential(conv(inputs, outputs, 1, stride), norm(outputs))

    def forward(self, x):
        x = F.relu(self.bn1(x))
        return self.conv2(F.relu(self.bn2(self.conv1(x)))) + self.shortcut(x)


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, affine=False)


class PreActResNet(nn.Module):
    """RobustBench's class of the binary CARDs; shortcuts carry what is normalised, the identity too."""

    def __init__(self, width: int, classes: int):
        super().__init__()
        self.conv1, inputs = conv(3, width), width
        for stage, w in enumerate((width, 3 * width, 6 * width, 12 * width), 1):
            blocks = PreAct(inputs, w, 1 if stage == 1 else 2), PreAct(w, w, 1)
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
            inputs = w
        self.bn1, self.fc = norm(inputs), conv(inputs, classes, 1)

    def forward(self, x):
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(x)))))
        return self.fc(F.avg_pool2d(F.relu(self.bn1(x)), 4)).flatten(1)


class Conv4(nn.Module):
    """biprop's Conv4: the linear layers are 1x1 convolutions, the first reads the map in the order C, H, W."""

    def __init__(self, width: int, classes: int):
        super().__init__()
        layers = []
        for inputs, outputs in ((3, width), (width, 2 * width)):
            layers += [conv(inputs, outputs), nn.ReLU(), conv(outputs, outputs), nn.ReLU()]
            layers += [nn.MaxPool2d(2)]
        self.convs = nn.Sequential(*layers)
        hidden = 4 * width
        head = [conv(64 * 2 * width, hidden, 1), nn.ReLU(), conv(hidden, hidden, 1), nn.ReLU()]
        self.linear = nn.Sequential(*head, conv(hidden, classes, 1))

    def forward(self, x):
        return self.linear(self.convs(x).flatten(1)[:, :, None, None]).flatten(1)


NETWORKS = {"resnet18": ResNet18, "preact_wrn18_2": PreActResNet, "conv4": Conv4}


def random(name: str, width: int, classes: int) -> nn.Module:
    """The network in evaluation mode, with BatchNorm that does something."""
    torch.manual_seed(0)
    network = NETWORKS[name](width, classes).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
            if layer.affine:
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias, 0, 0.1)
    return network


def logits(network: nn.Module, images_NHWC):
    with torch.no_grad():
        return network(torch.as_tensor(images_NHWC).permute(0, 3, 1, 2)).numpy()
