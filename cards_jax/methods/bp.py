"""bp: biprop. Edge-popup whose kept weights are reduced to a sign and one gain per layer."""

from functools import partial

from cards_jax.methods import ep

AFFINE = False
check = ep.check
init = partial(ep.init, default="kaiming_normal")
phases = partial(ep.phases, binary=True)
