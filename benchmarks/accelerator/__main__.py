"""Benchmarks of one accelerator (JAX's default device): peaks, convolutions, selection, training, heatmaps.

    python -m benchmarks.accelerator --save=results/accelerator_h200

Measures the parts named by --only, or all, one after another, and saves each as it ends. `convolutions` compares
every layer's shape and R = 1 and 5: grouped (native under vmap), unrolled over realizations and batched products over
patches, in float32, TF32 and bfloat16, forward and both gradients; `training` stands beside PyTorch in bfloat16,
channels last and compiled, one network after another. On a machine without an accelerator it measures the CPU, which
shows that it runs; `--quick` takes the smallest of everything.
"""

import os
import sys

from benchmarks.accelerator import convolutions, heatmap, peaks, selection, training
from benchmarks.suite import layers
from benchmarks.suite.program import Parts, Program

PARTS: Parts = {
    "peaks": peaks.run,
    "convolutions": convolutions.run,
    "selection": selection.run,
    "training": training.run,
    "heatmap": heatmap.run,
}
main = Program(
    "benchmarks.accelerator",
    __doc__,
    PARTS,
    needs_torch=False,
    networks=tuple(layers.NETWORKS),
    together=True,
).main

if __name__ == "__main__":
    # Contestants share the device's memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    sys.exit(main())
