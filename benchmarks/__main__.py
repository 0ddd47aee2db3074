"""All benchmarks of this machine, side by side in one run: tables of speed, memory and compilation.

    python -m benchmarks --save=results/benchmarks_cpu

Measures the parts named by --only, or all, one after another, and saves each as it ends: FOLDER/PART.md and PART.csv,
and FOLDER/README.md, all tables that lie in the folder with when each was measured. A part that is measured again
replaces its tables. Needs PyTorch; the corruptions' peers need OpenCV and scikit-image.
"""

import sys

from benchmarks.suite import (
    compile,
    growth,
    layers,
    memory,
    pairs,
    parts,
    robust,
    selection,
    train,
)
from benchmarks.suite.program import Parts, Program

PARTS: Parts = {
    "pairs": pairs.run,
    "train": train.run,
    "parts": parts.run,
    "layers": layers.run,
    "selection": selection.run,
    "memory": memory.run,
    "compile": compile.run,
    "growth": growth.run,
    "heatmap": robust.heatmap,
    "corruptions": robust.corruptions,
    "deck": robust.deck,
}
PROGRAM = Program("benchmarks", __doc__, PARTS)
main = PROGRAM.main

if __name__ == "__main__":
    sys.exit(main())
