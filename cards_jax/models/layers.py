"""Layers with torch's conventions: convolution, linear, BatchNorm, max-pool."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from cards_jax.models.convolution import convolve

EPSILON = 1e-5
MOMENTUM = 0.9  # torch's 0.1 counts the other way round

_FAN_IN = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
_FAN_OUT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


# Both draw a matrix with as many inputs or outputs, which compiles faster (draws.py) and holds the same numbers.


def kaiming_normal(key: Array, shape: tuple[int, ...]) -> Array:
    """Gaussian of variance 2 / fan_in."""
    return _FAN_IN(key, (math.prod(shape[:-1]), shape[-1])).reshape(shape)


def kaiming_normal_out(key: Array, shape: tuple[int, ...]) -> Array:
    """Gaussian of variance 2 / fan_out."""
    return _FAN_OUT(key, (shape[-2], math.prod(shape[:-2]) * shape[-1])).reshape(shape)


def bias_like_torch(fan_in: int):
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    bound = fan_in**-0.5
    return lambda key, shape: jax.random.uniform(key, shape, minval=-bound, maxval=bound)


class Conv(nn.Module):
    """Square convolution in the dtype of its input, of channels in so many groups."""

    features: int
    size: int = 3
    stride: int = 1
    groups: int = 1
    bias: bool = False
    initial: Callable = kaiming_normal
    formulation: str | None = None

    @nn.compact
    def __call__(self, x_BHWC: Array) -> Array:
        shape = (self.size, self.size, x_BHWC.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.initial, shape).astype(x_BHWC.dtype)
        y = convolve(x_BHWC, kernel, self.stride, self.formulation, self.groups)
        if self.bias:
            bias = self.param("bias", bias_like_torch(math.prod(shape[:3])), (self.features,))
            y = y + bias.astype(y.dtype)[None, None, None]
        return y


class Linear(nn.Module):
    """x (B, C) to (B, features), with torch's bias initialisation where there is a bias, or zeros."""

    features: int
    bias: bool = False
    zero_bias: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", kaiming_normal, (x.shape[-1], self.features))
        x_out = x @ kernel.astype(x.dtype)
        if self.bias:
            initial = nn.initializers.zeros if self.zero_bias else bias_like_torch(x.shape[-1])
            bias = self.param("bias", initial, (self.features,))
            x_out = x_out + bias.astype(x.dtype)[None]
        return x_out


class BatchNorm(nn.Module):
    """BatchNorm over (B, H, W) with float32 statistics; the running variance is the unbiased one, as in torch.

    affine: learnable scale and bias, or fixed at 1 and 0 (edge-popup and biprop).
    batch_axis: mesh axis over which the batch is split, whose statistics are averaged; None for a whole batch.
    """

    affine: bool = True
    gamma: str = "ones"
    batch_axis: str | None = None

    @nn.compact
    def __call__(self, x_BHWC: Array, train: bool) -> Array:
        features = x_BHWC.shape[-1:]
        mean = self.variable("stats", "mean", jnp.zeros, features)
        var = self.variable("stats", "var", jnp.ones, features)
        m, v = mean.value, var.value
        if train:
            # E[x^2] - m^2 reads the activations once; two passes cost 1.9 times as much.
            x32 = x_BHWC.astype(jnp.float32)
            axes = tuple(range(x_BHWC.ndim - 1))
            m, square = jnp.mean(x32, axes), jnp.mean(jnp.square(x32), axes)
            count = x_BHWC.size // features[0]
            if self.batch_axis:
                m, square = lax.pmean((m, square), self.batch_axis)
                count = count * lax.axis_size(self.batch_axis)
            v = jnp.maximum(square - jnp.square(m), 0)
            if not self.is_initializing():
                unbiased = v * (count / max(count - 1, 1))
                mean.value = MOMENTUM * mean.value + (1 - MOMENTUM) * m
                var.value = MOMENTUM * var.value + (1 - MOMENTUM) * unbiased
        scale = lax.rsqrt(v + EPSILON)
        shift = -m * scale
        if self.affine:
            initial = {"ones": nn.initializers.ones, "uniform": nn.initializers.uniform(1.0)}
            gamma = self.param("scale", initial[self.gamma], features)
            beta = self.param("bias", nn.initializers.zeros, features)
            scale, shift = scale * gamma, shift * gamma + beta
        channels = (1,) * (x_BHWC.ndim - 1) + features
        return (x_BHWC * scale.reshape(channels) + shift.reshape(channels)).astype(x_BHWC.dtype)


@jax.custom_vjp
def max_pool(x_BHWC: Array) -> Array:
    """2x2 maximum, stride 2: a maximum of strided slices is 5 times faster than reduce_window on a CPU.

    The gradient goes to the largest of each four, in equal shares where several are.
    """
    a, b, c, d = _corners(x_BHWC)
    return jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))


def _corners(x_BHWC: Array) -> list[Array]:
    """The four pixels of every 2x2 block, an odd last row or column left out."""
    _, H, W, _ = x_BHWC.shape
    x = x_BHWC[:, : H // 2 * 2, : W // 2 * 2]
    return [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]


def _max_pool_forward(x):
    out = max_pool(x)
    return out, (x, out)


def _max_pool_backward(saved, g):
    # Doubling what was pooled is one fused loop; transposing the slices would write the whole map four times.
    x, out = saved
    B, H, W, C = x.shape
    ties = sum((corner == out).astype(g.dtype) for corner in _corners(x))
    double = lambda z: jnp.broadcast_to(
        z[:, :, None, :, None], (B, H // 2, 2, W // 2, 2, C)
    ).reshape(B, H // 2 * 2, W // 2 * 2, C)
    even = x[:, : H // 2 * 2, : W // 2 * 2]
    grad = jnp.where(even == double(out), double(g / ties), 0)
    return (jnp.pad(grad, ((0, 0), (0, H % 2), (0, W % 2), (0, 0))),)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def global_average(x_BHWC: Array) -> Array:
    """Mean over height and width, (B, C)."""
    return jnp.mean(x_BHWC, axis=(1, 2))
