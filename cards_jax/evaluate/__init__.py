"""Measurements: each module gives `measure(predict, images, labels) -> {name: sum}` for one card.

`predict` maps uint8 images (B, H, W, C) to logits (B, K). Sums are divided by `count` at the very end.
"""
