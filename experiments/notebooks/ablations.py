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
# # Ablations
#
# What each part of a binary-weight card does, one change at a time, on the handwritten digits that come with scikit-
# learn. Several seeds and sparsities of a variant are one compiled program. The digits are easy and the networks
# small: orderings seen here need not hold elsewhere.

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
from cards_jax import summary

SCALE = os.environ.get("CARDS_JAX_SCALE", "full")  # "smoke": seconds, and numbers that mean nothing
SMOKE = SCALE == "smoke"
TINY = {"model.name": "conv2", "model.width": 2, "data.image_size": 8, "epochs": 1, "seeds": 0}
SETTINGS = {"baseline": None, "seeds": (0, 1, 2), "sparsity": (0.5, 0.8, 0.95)}
SETTINGS |= {**TINY, "compute.devices": 1, "sparsity": (0.5, 0.8)} if SMOKE else {}

# %% [markdown]
# ## One change at a time
#
# | variant | change to biprop |
# |---|---|
# | biprop | none: a sign and one gain for each layer, layerwise selection |
# | edge-popup | kept weights stay as they were drawn: signed constants |
# | edge-popup, Gaussian | the same, drawn from a normal distribution |
# | global | weights compete over all layers |
# | no weight scale | random weights without the factor sqrt(1 / density) |
# | random | pruned by chance, kept weights trained: the control of every criterion |
# | dense weights, gmp | gradual magnitude pruning: weights are trained while they are pruned |

# %%
VARIANTS = {
    "biprop": {},
    "edge-popup": {"method": "ep"},
    "edge-popup, Gaussian": {"method": "ep", "popup.weight_init": "kaiming_normal"},
    "global": {"scope": "global", "popup.progressive_epochs": 3},
    "no weight scale": {"popup.weight_scale": "none"},
    "random": {"method": "random", "learning_rate": 0.02},
    "gmp": {"method": "gmp", "learning_rate": 0.02},
}
if SMOKE:
    VARIANTS = {name: VARIANTS[name] for name in ("biprop", "random")}

runs = {}
for name, changes in VARIANTS.items():
    word = "".join(x if x.isalnum() else "_" for x in name)
    named = {"name": f"ablation_{word}"}
    runs[name] = cards_jax.train_cards("configs/quickstart.py", {**SETTINGS, **changes, **named})

# %% [markdown]
# ## Accuracy against sparsity
#
# Lines are means over seeds, bands reach from the smallest to the largest. A network that diverged is left out, and
# the table says how many there were.

# %%
summaries = {name: summary.summarise(run.results) for name, run in runs.items()}

figure, axes = plt.subplots(figsize=(7, 4))
for name, rows in summaries.items():
    rows = [row for row in rows if row["n"]]
    sparsities = [100 * row["sparsity"] for row in rows]
    low, mean, high = ([100 * row[f"accuracy_{k}"] for row in rows] for k in ("min", "mean", "max"))
    (line,) = axes.plot(sparsities, mean, marker="o", label=name)
    axes.fill_between(sparsities, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
axes.set_xlabel("Sparsity (%)")
axes.set_ylabel("Test accuracy (%)")
axes.legend(fontsize=8)
figure.tight_layout()

# %%
for name, run in runs.items():
    print(f"{name}\n\n{run}\n")

# %% [markdown]
# ## Out of distribution
#
# The same variants under four corruptions that are not among the fifteen of the benchmark.

# %%
names = ["speckle_noise"] if SMOKE else ["speckle_noise", "gaussian_blur", "spatter", "saturate"]
table = cards_jax.measure_corruptions(
    [run.folder for run in runs.values()], corruptions=names, images=10 if SMOKE else 360
)
table

# %%
table.pictures["main"]
