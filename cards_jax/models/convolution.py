"""One convolution with several formulations of equal numerics, so that many networks train fast in one program.

Under vmap over kernels XLA makes grouped convolutions (several times slower than one after another on a CPU, slow on
CUDA too), and inside loops its CPU backend computes the gradients of a convolution on a naive path (the kernel's
gradient over 100 times slower). Each formulation below is written for one network and stays fast under vmap:

native     XLA's own convolution; vmap groups it. For backends that group well.
unrolled   XLA's own convolution; a batching rule unrolls it over realizations.
canonical  unrolled, and both gradients are written as convolutions in the one layout that XLA's CPU backend runs fast
           inside loops, or with a stride as matrix products; few channels as in narrow.py.
winograd   canonical, but wide 3 x 3 convolutions of stride 1 in float32 as winograd.py does them, with fewer
           multiplications.
patches    shifted copies times a matrix; vmap makes a batched matrix product.
"""

from collections.abc import Callable
from functools import cache, partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from cards_jax.models import narrow, winograd
from cards_jax.models.narrow import LAYOUT
from cards_jax.unroll import unroll

FORMULATIONS = ("native", "unrolled", "canonical", "winograd", "patches")
# Of the kernel's gradient on a CPU.
CUT_FROM, TILE_ROWS = 16, 4  # rows of a map that is cut, and of its tiles
CUT_IMAGES, CUT_FLOATS = 32, 2**16  # at most so many images and activations in such a tile
TILE_FLOATS = 2**18  # activations of a tile of uncut maps
STRIDED_IMAGES = 4  # of a tile where there is a stride, and the input's map is one that is cut


def default_formulation() -> str:
    """The measured default of this backend."""
    return {"cpu": "winograd", "tpu": "native"}.get(jax.default_backend(), "unrolled")


def convolve(
    x_BHWC: Array,
    kernel_HWIO: Array,
    stride: int = 1,
    formulation: str | None = None,
    groups: int = 1,
) -> Array:
    """Square convolution, padded by half the kernel on every side (also at stride 2, as in PyTorch).

    Args:
      x_BHWC: images or activations.
      kernel_HWIO: (k, k, C / groups, D) with odd k, of the same dtype.
      stride: 1 or more, in both directions.
      formulation: one of FORMULATIONS, or None for the backend's default.
      groups: each of so many equal parts of the output channels reads its own part of the input's.

    Returns:
      (B, ceil(H / stride), ceil(W / stride), D).
    """
    formulation = formulation or default_formulation()
    if formulation == "native":
        return _native(x_BHWC, kernel_HWIO, stride, groups)
    if groups > 1:  # XLA's grouped convolutions are slow in loops, and so are their gradients
        split = (jnp.split(z, groups, axis=-1) for z in (x_BHWC, kernel_HWIO))
        parts = [convolve(x, kernel, stride, formulation) for x, kernel in zip(*split, strict=True)]
        return jnp.concatenate(parts, axis=-1)
    k = kernel_HWIO.shape[0]
    if formulation == "unrolled":
        return _unrolled(k, stride, *x_BHWC.shape[1:3])(x_BHWC, kernel_HWIO)
    if formulation != "patches" and stride > 1:
        return _strided(k, stride, *x_BHWC.shape[1:3])(x_BHWC, kernel_HWIO)
    if formulation == "winograd" and k == winograd.KERNEL and x_BHWC.dtype == jnp.float32:
        return _winograd()(x_BHWC, kernel_HWIO)
    if formulation != "patches" and k > 1:
        return _canonical(k)(x_BHWC, kernel_HWIO)
    return _product(x_BHWC, kernel_HWIO, stride)


def patches(x_BHWC: Array, k: int, stride: int) -> Array:
    """(B, H', W', k * k * C): the k x k neighbourhood of every output position, zeros outside."""
    return jnp.concatenate(_shifted(x_BHWC, k, stride), axis=-1)


def _shifted(x_BHWC: Array, k: int, stride: int) -> list[Array]:
    """What each of the k * k places of a kernel reads, (B, H', W', C)."""
    pad = k // 2
    _, H, W, _ = x_BHWC.shape
    padded = jnp.pad(x_BHWC, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    rows, columns = ((n - 1) // stride * stride + 1 for n in (H, W))
    return [
        padded[:, i : i + rows : stride, j : j + columns : stride]
        for i in range(k)
        for j in range(k)
    ]


def _product(x, kernel, stride):
    k, _, _, features = kernel.shape
    return jnp.matmul(patches(x, k, stride), kernel.reshape(-1, features))


def _native(x, kernel, stride, groups=1):
    pad = kernel.shape[0] // 2
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(pad, pad)] * 2,
        dimension_numbers=LAYOUT,
        feature_group_count=groups,
    )


def _with_gradients(forward: Callable, of_input: Callable, of_kernel: Callable) -> Callable:
    """A convolution of (x, kernel) from its three pieces, each unrolled under vmap."""
    forward = unroll(forward, images_first=True)
    of_input = unroll(of_input, images_first=True)
    of_kernel = unroll(of_kernel)

    @jax.custom_vjp
    def conv(x, kernel):
        return forward(x, kernel)

    conv.defvjp(
        lambda x, kernel: (forward(x, kernel), (x, kernel)),
        lambda saved, g: (of_input(g, saved[1]), of_kernel(saved[0], g)),
    )
    return conv


# --- canonical: every convolution as b01f, 01io -> b01f, stride 1 ---


def _flipped(kernel):
    # The barrier keeps XLA from folding the transpose into a layout that is slow inside loops.
    return lax.optimization_barrier(kernel[::-1, ::-1].transpose(0, 1, 3, 2))


def _direct(x, kernel):
    n = narrow.columns(*kernel.shape[2:], x.shape[2])
    return _native(x, kernel, 1) if n == 1 else narrow.convolve(x, kernel, n)


def _flipped_convolution(g, kernel):
    return _direct(g, _flipped(kernel))


def _kernel_gradient(x, g, k):
    """dL/dkernel as a convolution: channels of x are its images, images its channels, g its kernel.

    Computed in tiles of a few images and rows, because a core's cache is small, and added up.
    """
    batch, H, W, C = x.shape
    images, rows = _tile(batch, H, W, max(C, g.shape[-1]))
    inside = k // 2 if rows == H else 0  # else the rows beside a tile belong to it
    padded = jnp.pad(x, ((0, 0), (k // 2 - inside,) * 2, (0, 0), (0, 0)))

    def of_tile(i):
        at = i // (H // rows) * images, i % (H // rows) * rows, 0, 0
        x = lax.dynamic_slice(padded, at, (images, rows + 2 * (k // 2 - inside), W, C))
        part = lax.dynamic_slice(g, at, (images, rows, W, g.shape[-1]))
        x_CHWB = lax.optimization_barrier(x.transpose(3, 1, 2, 0))
        g_HWBD = lax.optimization_barrier(part.transpose(1, 2, 0, 3))
        padding = [(inside, inside), (k // 2, k // 2)]
        return lax.conv_general_dilated(x_CHWB, g_HWBD, (1, 1), padding, dimension_numbers=LAYOUT)

    count = batch // images * (H // rows)
    total = lax.fori_loop(1, count, lambda i, total: total + of_tile(i), of_tile(0))
    return lax.optimization_barrier(total).transpose(1, 2, 0, 3)


def _tile(batch: int, H: int, W: int, channels: int) -> tuple[int, int]:
    """Images and rows of a tile, divisors of the batch and of H: measured on a core with 1 MiB of cache.

    A small map is not cut: the rows that neighbouring tiles share would cost more than the cache gives.
    """
    if H >= CUT_FROM:
        rows = _divisor(H, TILE_ROWS)
        return _divisor(batch, min(CUT_IMAGES, CUT_FLOATS // (rows * W * channels))), rows
    return _divisor(batch, TILE_FLOATS // (H * W * channels)), H


def _divisor(n: int, most: int) -> int:
    """The largest one up to `most`."""
    return max(d for d in range(1, max(1, min(n, most)) + 1) if n % d == 0)


@cache
def _canonical(k: int) -> Callable:
    of_kernel = partial(_kernel_gradient, k=k)
    return _with_gradients(_direct, _flipped_convolution, of_kernel)


@cache
def _winograd() -> Callable:
    """Each piece in the way that is faster for its shapes, which under vmap are those of what it joins."""

    def forward(x, kernel):
        if winograd.pays(x.shape, kernel.shape):
            return winograd.convolve(x, kernel)
        return _direct(x, kernel)

    def of_input(g, kernel):
        return forward(g, _flipped(kernel))

    def of_kernel(x, g):
        if winograd.pays(x.shape, (winograd.KERNEL, winograd.KERNEL, x.shape[-1], g.shape[-1])):
            return winograd.kernel_gradient(x, g)
        return _kernel_gradient(x, g, winograd.KERNEL)

    return _with_gradients(forward, of_input, of_kernel)


@cache
def _strided(k: int, stride: int, H: int, W: int) -> Callable:
    """With a stride, XLA's own convolution is the fastest forward only: its gradients are matrix products."""

    def of_input(g, kernel):
        x = jax.ShapeDtypeStruct((g.shape[0], H, W, kernel.shape[2]), g.dtype)
        return jax.linear_transpose(lambda x: _product(x, kernel, stride), x)(g)[0]

    def of_images(x, g):
        # A product for each place of the kernel: patches would be written first. g comes first because what does is
        # transposed, slowly, and g is the same for all places.
        one = lambda x: lax.dot_general(g, x, ((range(3), range(3)), ((), ())))
        return jnp.stack([one(x) for x in _shifted(x, k, stride)])

    def of_kernel(x, g):
        n = _divisor(len(x), STRIDED_IMAGES if H >= CUT_FROM else len(x))
        part = lambda i: of_images(*(lax.dynamic_slice_in_dim(z, i * n, n) for z in (x, g)))
        total = lax.fori_loop(1, len(x) // n, lambda i, total: total + part(i), part(0))
        return total.reshape(k, k, g.shape[-1], -1).transpose(0, 1, 3, 2)

    forward = partial(_native, stride=stride) if k > 1 else partial(_product, stride=stride)
    return _with_gradients(forward, of_input, of_kernel)


# --- unrolled: XLA's own convolution and its own gradients, one per realization ---


@cache
def _unrolled(k: int, stride: int, H: int, W: int) -> Callable:
    forward = partial(_native, stride=stride)

    def of_input(g, kernel):
        x = jax.ShapeDtypeStruct((g.shape[0], H, W, kernel.shape[2]), g.dtype)
        return jax.linear_transpose(lambda x: forward(x, kernel), x)(g)[0]

    def of_kernel(x, g):
        kernel = jax.ShapeDtypeStruct((k, k, x.shape[-1], g.shape[-1]), g.dtype)
        return jax.linear_transpose(lambda kernel: forward(x, kernel), kernel)(g)[0]

    return _with_gradients(forward, of_input, of_kernel)
