"""A campaign of faults: what is tried, how often, what is lost, what is silently wrong, what the user reads.

    python -m faults --save=results/faults

One file for each kind of fault; each gives trials, whose outcomes are measured: results are compared with those of
runs that nothing disturbed, bit for bit. The tests' helpers are used, so it runs from a checkout.
"""

import os
import sys
import warnings
from pathlib import Path

# Programs are tiny and run a few steps: most of the time would go into optimizing them. For the children as well.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
warnings.filterwarnings("ignore", message="Image size .* could be decompression bomb")
sys.path.append(str(Path(__file__).parents[1] / "tests"))
