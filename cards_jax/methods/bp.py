"""bp: biprop. Edge-popup whose kept weights are reduced to a sign and one gain per layer."""

from functools import partial

from cards_jax.methods import ep

AFFINE = False
check = ep.check
weight_init = partial(ep.weight_init, default="kaiming_normal")
init = partial(ep.init, weight_init=weight_init)
phases = partial(ep.phases, binary=True)
