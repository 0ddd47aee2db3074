"""Imported by the server that runs are forked from: notes of which commit their code is, whatever comes later."""

from cards_jax import folder

folder.commit()
