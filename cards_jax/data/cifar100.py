"""CIFAR-100: 50,000 training and 10,000 test photographs, fine labels (Krizhevsky 2009)."""

import numpy as np

from cards_jax.data import cifar

CLASSES = tuple(
    """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
    butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach
    couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster
    house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
    pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket
    rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
    sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip
    turtle wardrobe whale willow_tree wolf woman worm
    """.split()
)
MEAN = (0.5071, 0.4865, 0.4409)
STD = (0.2673, 0.2564, 0.2762)

LAYOUT = cifar.Layout(
    name="cifar100",
    classes=100,
    batches={"train": {"train": 50_000}, "test": {"test": 10_000}},
    label_bytes=2,  # coarse, fine
    label_key="fine_labels",
    binary=cifar.Form(
        cifar.remote(
            "cifar-100-binary.tar.gz",
            168_513_733,
            "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        ),
        "cifar-100-binary",
        ".bin",
    ),
    python=cifar.Form(
        cifar.remote(
            "cifar-100-python.tar.gz",
            169_001_437,
            "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        ),
        "cifar-100-python",
        "",
    ),
)


def load(
    split: str,
    dir: str | None = None,
    download: bool = False,
    cache_dir: str | None = None,
    image_size: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Images (uint8, N x 32 x 32 x 3) and fine labels (int32) of a split, in the official order."""
    return cifar.read(LAYOUT, split, dir, download, cache_dir)
