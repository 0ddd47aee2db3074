# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A tour of cards_jax
#
# Train cards, look at one, corrupt its images, map its errors over frequencies, and play a deck. Everything runs on
# the handwritten digits that come with scikit-learn, so nothing is downloaded beyond the package. The digits are
# easy: this notebook shows how things are done, not how well.

# %%
# Installs the package where it is not there yet, from a checkout: upload one, and name it here. Whatever JAX, its
# plugins and NumPy the runtime has stays as it is: pip is told their versions as constraints, and where these are too
# old for the package (JAX before 0.10.2) it stops instead of changing them.
import importlib.metadata
import importlib.util
import pathlib
import subprocess
import sys
import tempfile

PACKAGE = "cards_jax"  # the folder of a checkout, an archive of one, or git+https://...

if importlib.util.find_spec("cards_jax") is None:
    if "://" not in PACKAGE and not pathlib.Path(PACKAGE).exists():
        raise SystemExit(
            f"PACKAGE={PACKAGE!r}: no such folder or archive; upload a checkout, and name it"
        )
    kept = ("jax", "libtpu", "nvidia-", "numpy")
    there = {d.name.lower(): d.version for d in importlib.metadata.distributions() if d.name}
    pins = [f"{name}=={there[name]}" for name in sorted(there) if name.startswith(kept)]
    constraints = pathlib.Path(tempfile.mkdtemp()) / "constraints.txt"
    constraints.write_text("\n".join(pins) + "\n")
    source = PACKAGE if "://" in PACKAGE else str(pathlib.Path(PACKAGE).absolute())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", str(constraints)]
    subprocess.run([*pip, source], check=True)

# %%
import os

import matplotlib.pyplot as plt

import cards_jax

SCALE = os.environ.get("CARDS_JAX_SCALE", "full")  # "smoke": seconds, and numbers that mean nothing
SMOKE = SCALE == "smoke"
TINY = {"model.name": "conv2", "model.width": 2, "data.image_size": 8, "epochs": 1, "seeds": 0}
SETTINGS = {**TINY, "baseline": None, "compute.devices": 1} if SMOKE else {}
CORRUPTIONS = ("brightness",) if SMOKE else "benchmark"
IMAGES = 10 if SMOKE else 360  # of the test set

# %% [markdown]
# ## Train
#
# `configs/quickstart.py` asks for biprop cards: weights stay at their random values, a mask is learnt, and what it
# keeps is reduced to a sign and one gain for each layer. Two seeds times two sparsities are four *realizations*,
# trained side by side in one compiled program, beside a dense network to compare with. Sparsity is the fraction
# removed.

# %%
run = cards_jax.train_cards("configs/quickstart.py", SETTINGS)
run

# %%
run.curves

# %% [markdown]
# ## A card
#
# A card is one small file: an entropy-coded mask, signs, gains, and what was measured. Run this cell again, or start
# the notebook anew with the same settings: what is finished is read, not trained.

# %%
path = run.cards[0]
print(cards_jax.describe(path))

# %%
from cards_jax import size

print(size.table(path, name=path.name).text())

# %%
from cards_jax import data

images, labels = data.load("digits", "test", image_size=run.config.data.image_size)
card = cards_jax.load(path)
probabilities = card.predict(images[:8])

figure, axes = plt.subplots(1, 8, figsize=(10, 1.6))
for place, image, p in zip(axes, images, probabilities, strict=False):
    place.imshow(image)
    place.set_title(f"{p.argmax()}: {100 * p.max():.0f}%")
    place.axis("off")

# %% [markdown]
# ## Corrupt
#
# The fifteen corruptions of CIFAR-10-C, at five severities, are made on the device from any square images. Below is
# one digit at severity 3; then the accuracy of all cards on every corruption, relative to the dense network.

# %%
import jax

from cards_jax import corruptions

names = CORRUPTIONS if SMOKE else corruptions.BENCHMARK
figure, axes = plt.subplots(3, 5, figsize=(8, 5.5))
for place in axes.flat:
    place.axis("off")
for place, name in zip(axes.flat, names, strict=False):
    made = corruptions.corrupt(jax.random.key(0), images[:1], name, severity=3)
    place.imshow(made[0])
    place.set_title(name.replace("_", " "), fontsize=9)

# %%
table = cards_jax.measure_corruptions(
    [run.folder], run.baseline, corruptions=CORRUPTIONS, images=IMAGES
)
table

# %%
table.pictures["main"]

# %% [markdown]
# ## Heatmap
#
# Every cell is one frequency: the error on images to which a wave of that frequency is added. Low frequencies are in
# the centre. The second picture is the difference to the dense network; blue is less error.

# %%
heat = cards_jax.measure_heatmaps(
    [run.folder], run.baseline, eps=[2.0] if SMOKE else [2.0, 4.0], images=5 if SMOKE else 200
)
heat.pictures["main"]

# %%
heat.pictures["difference"] if run.baseline else None

# %% [markdown]
# ## Deck
#
# Cards that were trained with different augmentations see different images well. A deck holds both kinds. Its gate
# compares the spectrum of a batch with those of augmented training images, and only the cards that it picks are
# computed.

# %%
noise = {"augment": "gaussian", "name": "quickstart_gaussian", "baseline": None}
noisy = cards_jax.train_cards("configs/quickstart.py", {**SETTINGS, **noise})
deck = cards_jax.build_deck([run.folder, noisy.folder], gate="paper")
deck.save("tour.deck")
print(cards_jax.describe("tour.deck"))

# %%
batch = images[:100]
batches = {"clean": batch} | {
    name: corruptions.corrupt(jax.random.key(0), batch, name, severity=5)
    for name in (("brightness",) if SMOKE else ("gaussian_noise", "defocus_blur", "fog"))
}
for name, given in batches.items():
    distances = deck.choose(given).distances[0]
    nearest = deck.gate.labels[int(distances.argmin())]
    print(f"{name:15} goes to the cards trained with {nearest}")

# %%
# Anything that predicts can be measured in the manner of RobustBench: a card, a deck, a network of another library.
ours = cards_jax.benchmark(
    deck.predict,
    data="digits",
    image_size=run.config.data.image_size,
    corruptions=CORRUPTIONS,
    images=IMAGES,
    batch_size=100,
)
print(ours)

# %% [markdown]
# ## Further
#
# - `ablations.ipynb`: what each part of a method does.
# - Another sparsity, more seeds: `cards_jax.train_cards("configs/quickstart.py", {"sparsity": [0.5, 0.9]})`.
# - CIFAR-10: `{"data.name": "cifar10", "data.download": True}` with any config.
# - Your own images: `{"data.name": "folder", "data.dir": PATH, "data.title": NAME}`, a folder of
#   `train/<class>/*.png` and `test/<class>/*.png`.
