"""Compact, accurate and robust deep networks (CARDs), many realizations at a time.

A *card* is a compressed network. Functions are written for one card; `realizations` maps them over many.

Axis letters in names: R realizations, N images, B batch, H W C height, width, channels, K classes, L prunable layers,
U mask updates, V augmented views.
"""

__version__ = "0.1.0"
