"""How large an experiment is, as data: networks, seeds, sparsities, lengths of training, images."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from lab.images import Images

PAPER_LEVELS = (0.488, 0.5904, 0.7903, 0.8926, 0.945)  # 50, 60, 80, 90 and 95% in the paper's words


@dataclasses.dataclass(frozen=True)
class Scale:
    """Everything that the size of an experiment decides.

    networks: of experiments that compare architectures; one: of those that do not. sparsities: fractions removed, the
    last is the "high" one of every claim, `middle` the one of experiments at a single sparsity. augmented: seeds of
    runs that compare augmentations and decks (the paper has three).
    learning_rates, weight_decays, tune_seeds, tune_sparsity: the grid that every method is given, and on what it is
    chosen. holdout: images that choose, kept: those that are left out of the final trainings as well.
    common: fields of every run; popup, iterative, finetune, gradual: of ep and bp, lth and lrr, ft, gmp besides.
    images, heat_images: of the test set, for corruptions (0 is all) and heatmaps. eps: norms of Fourier noise, of which
    experiments that compare no norms take the largest.
    references: P of a deck's gate.
    given: fields of every run that a command line sets, and `pictures` the data set, for what has to be worked out from
    the length of a training or the size of a network.
    """

    name: str
    networks: tuple[str, ...]
    one: str
    seeds: tuple[int, ...]
    augmented: tuple[int, ...]
    sparsities: tuple[float, ...]
    middle: float
    learning_rates: tuple[float, ...]
    weight_decays: tuple[float, ...]
    tune_seeds: tuple[int, ...]
    tune_sparsity: float
    holdout: int
    kept: int
    widths: tuple[int, ...]
    images: int
    heat_images: int
    eps: tuple[float, ...]
    references: int
    data: str | None = None  # a source that needs no folder; None is CIFAR-10
    given: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    common: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    popup: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    iterative: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    finetune: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    gradual: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def pictures(self) -> Images:
        """The data set, as far as fields name one."""
        return Images.of({"data.name": self.data or "cifar10", **self.common, **self.given})

    @property
    def is_smoke(self) -> bool:
        """Whether it only shows that everything runs; by name, as what is given makes other objects of a scale."""
        return self.name == "smoke"

    @property
    def is_paper(self) -> bool:
        """Whether it is as large as the paper."""
        return self.name == "paper"

    @property
    def high(self) -> float:
        """The sparsity of every claim about high sparsity."""
        return self.sparsities[-1]

    @property
    def around_middle(self) -> tuple[float, ...]:
        """What to train where only the middle one is wanted: all, if it is one of them, so that runs are shared."""
        return self.sparsities if self.middle in self.sparsities else (self.middle,)

    @property
    def mapped(self) -> tuple[float, ...]:
        """Those of heatmaps: the middle one, and the high one where it is trained beside."""
        return tuple(s for s in self.around_middle if s in (self.middle, self.high))


SMOKE = Scale(
    name="smoke",
    networks=("conv2",),
    one="conv2",
    seeds=(0, 1),
    augmented=(0, 1),
    sparsities=(0.5, 0.75),
    middle=0.5,
    learning_rates=(0.03, 0.1),
    weight_decays=(1e-4,),
    tune_seeds=(100,),
    tune_sparsity=0.5,
    holdout=200,
    kept=200,
    widths=(4, 8),
    images=60,
    heat_images=30,
    eps=(4.0,),
    references=200,
    data="digits",
    common={
        "data.image_size": 16,
        "model.width": 8,
        "batch_size": 64,
        "epochs": 4,
        "evaluate.every_epochs": 4,
        "schedule.kind": "cosine",
        "augment": "plain",
    },
    popup={"popup.progressive_epochs": 1},
    iterative={"pruning.rate": 0.5, "pruning.rewind_steps": 8},
    finetune={"finetune.epochs": 2},
    gradual={"pruning.every": 8},
)
# Two cores: a quarter of Conv4's width trains about seven times as fast, so that a figure takes three hours.
NARROW = Scale(
    name="narrow",
    networks=("conv4",),
    one="conv4",
    seeds=(0, 1, 2, 3, 4),
    augmented=(0, 1, 2, 3, 4),
    sparsities=(0.5, 0.75, 0.9375),
    middle=0.75,
    learning_rates=(0.003, 0.01, 0.03, 0.1),
    weight_decays=(1e-4, 5e-4),
    tune_seeds=(100,),
    tune_sparsity=0.75,
    holdout=1000,
    kept=1000,
    widths=(8, 16, 32),
    images=300,
    heat_images=150,
    eps=(3.0, 4.0, 6.0),
    references=2000,
    common={
        "data.subset": 10000,
        "model.width": 16,
        "batch_size": 64,
        "epochs": 10,
        "evaluate.every_epochs": 10,
        "schedule.kind": "cosine",
    },
    popup={"popup.progressive_epochs": 1},
    iterative={"pruning.rate": 0.5, "pruning.rewind_steps": 156},
    finetune={"finetune.epochs": 4},
    gradual={"pruning.every": 30},
)
# Two cores, full-width Conv4: about 700 images a second. Few images without augmentation, so that dense training is
# over within 12 epochs, and large levels, so that rewinding needs two.
SMALL = Scale(
    name="small",
    networks=("conv4",),
    one="conv4",
    seeds=(0, 1, 2, 3, 4),
    augmented=(0, 1, 2, 3, 4),
    sparsities=(0.75, 0.9375),
    middle=0.75,
    learning_rates=(0.003, 0.01, 0.03, 0.1),
    weight_decays=(1e-4, 5e-4),
    tune_seeds=(100,),
    tune_sparsity=0.75,
    holdout=1000,
    kept=1000,
    widths=(16, 32, 64),
    images=300,
    heat_images=75,
    eps=(3.0, 4.0, 6.0),
    references=2000,
    common={
        "data.subset": 4000,
        "batch_size": 64,
        "epochs": 12,
        "evaluate.every_epochs": 12,
        "schedule.kind": "cosine",
        "augment": "plain",
    },
    popup={"popup.progressive_epochs": 1},
    iterative={"pruning.rate": 0.75, "pruning.rewind_steps": 46},
    finetune={"finetune.epochs": 5},
    gradual={"pruning.every": 20},
)
PAPER = Scale(
    name="paper",
    networks=("conv4", "conv8", "vgg19", "resnet18", "wrn18_2"),
    one="conv8",
    seeds=(0, 1, 2, 3, 4),
    augmented=(0, 1, 2, 3, 4),
    sparsities=PAPER_LEVELS,
    middle=0.7903,
    learning_rates=(0.01, 0.03, 0.1),
    weight_decays=(1e-4, 5e-4),
    tune_seeds=(100,),
    tune_sparsity=0.7903,
    holdout=5000,
    kept=0,
    widths=(16, 32, 64, 128),
    images=0,
    heat_images=1000,
    eps=(3.0, 4.0, 6.0),
    references=5000,
    common={"evaluate.every_epochs": 5},
)
SCALES = {scale.name: scale for scale in (SMOKE, NARROW, SMALL, PAPER)}
