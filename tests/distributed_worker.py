"""One process of a two-process training; prints a hash of the trained parameters and the counts of correct ones."""

import hashlib
import json
import sys

import jax

port, (count, number, devices, split) = sys.argv[1], map(int, sys.argv[2:])
jax.config.update("jax_num_cpu_devices", devices)
if count > 1:
    jax.distributed.initialize(f"localhost:{port}", count, number)

import small  # noqa: E402

from cards_jax import config, realizations  # noqa: E402
from cards_jax.trainer import Trainer  # noqa: E402

c = small.tiny(seeds=(0, 1, 2, 3) if split == 1 else (0,), sparsity=(0.5,))
points = config.points(c)
layout = realizations.layout(len(points), split, c.batch_size)
assert (layout.rows, layout.split) == (devices * count // split, split)
trainer = Trainer(c, small.data(), layout)
group = trainer.group(points)
state = trainer.enter(trainer.deal(group), group, 0)
state, _ = trainer.chunk(state, group, 0, 0, 6, True)
test = realizations.fetch(trainer.evaluate(state, group, 0, 6)["test"])
params = realizations.fetch(state.card.params)
assert realizations.least(5 + number) == 5 and realizations.processes_here() == count
sums = {
    k: float(abs(v).sum())
    for k, v in {"conv1": params["conv1"]["kernel"], "linear3": params["linear3"]["kernel"]}.items()
}
digest = hashlib.sha256(b"".join(x.tobytes() for x in jax.tree.leaves(params))).hexdigest()
print(json.dumps({"hash": digest, "correct": test["correct"].tolist(), "sums": sums}))
