"""3 x 3 convolutions in a quarter of the multiplications: Winograd's filtering F(4 x 4, 3 x 3) (Lavin and Gray 2016).

A map is cut into tiles of 4 x 4 outputs, each of which reads 6 x 6 inputs. Kernel and input tiles are taken through
polynomials at the points 0, 3/4, -3/4, 3/2, -3/2 and infinity; there, 36 products of matrices do the work of 144. These
points, unlike the usual 0, 1, -1, 2, -2, keep the error within about twice that of the direct sum.

A core's cache is small, so a few images are transformed, multiplied and transformed back at a time.
"""

import jax.numpy as jnp
from jax import Array, lax

KERNEL, TILE = 3, 4
SPAN = TILE + KERNEL - 1  # inputs of a tile in one direction, and points
P, Q = 0.75, 1.5  # the points are 0, P, -P, Q, -Q, infinity
NARROW, SPREAD = 32, 8  # channels from which it pays; places of a batch for each of them
# Of a piece, tiles times channels: small enough for the cache of a core, but larger with more channels, because every
# piece reads the transformed kernel, and reads and writes the sums of its gradient.
PIECE, PIECE_WIDE, PIECE_WIDE_SUMS = 2**12, 128, 64  # least; channels above which it grows


def pays(x_shape: tuple[int, ...], kernel_shape: tuple[int, ...]) -> bool:
    """Whether a convolution of stride 1 is faster this way on a CPU, as measured on one core.

    Narrow convolutions spend their time on transforms. Few places, or maps of a tile or so, do not pay for the
    transform of the kernel.
    """
    batch, H, W, C = x_shape
    side, _, _, D = kernel_shape
    tiled = side == KERNEL and H % TILE == W % TILE == 0 and H * W >= 4 * TILE**2
    return tiled and min(C, D) >= NARROW and batch * H * W >= SPREAD * max(C, D)


def convolve(x_BHWC: Array, kernel_HWIO: Array) -> Array:
    """Convolution of stride 1, padded by one: (B, H, W, D). H and W are multiples of TILE."""
    B, H, W, C = x_BHWC.shape
    D = kernel_HWIO.shape[-1]
    kernel = lax.optimization_barrier(_kernel_forward(kernel_HWIO))

    def of_piece(x: Array) -> Array:
        product = lax.dot_general(_input_forward(x), kernel, (((2,), (1,)), ((0,), (0,))))
        return _output_back(product, (len(x), H // TILE, W // TILE, D))

    n = _images(B, H, W, C, PIECE * max(C, D) // PIECE_WIDE)
    if n == B:
        return of_piece(x_BHWC)

    def body(i: Array, y: Array) -> Array:
        piece = of_piece(lax.dynamic_slice_in_dim(x_BHWC, i * n, n))
        return lax.dynamic_update_slice_in_dim(y, piece, i * n, 0)

    return lax.fori_loop(0, B // n, body, jnp.zeros((B, H, W, D), x_BHWC.dtype))


def kernel_gradient(x_BHWC: Array, g_BHWD: Array) -> Array:
    """dL/dkernel (3, 3, C, D) of `convolve` from its input and dL/doutput."""
    B, H, W, C = x_BHWC.shape
    D = g_BHWD.shape[-1]
    n = _images(B, H, W, max(C, D), PIECE * max(C, D) // PIECE_WIDE_SUMS)

    def of_piece(i) -> Array:
        x, g = (lax.dynamic_slice_in_dim(z, i * n, n) for z in (x_BHWC, g_BHWD))
        both = _input_forward(x), _output_transposed(g)
        return lax.dot_general(*both, (((1,), (1,)), ((0,), (0,))))

    total = lax.fori_loop(1, B // n, lambda i, total: total + of_piece(i), of_piece(0))
    return _kernel_transposed(lax.optimization_barrier(total).reshape(SPAN, SPAN, C, D))


def _images(B: int, H: int, W: int, C: int, floats: int) -> int:
    """How many images of C channels fit a piece: a divisor of the batch."""
    most = max(1, max(PIECE, floats) * TILE**2 // (H * W * C))
    return max(n for n in range(1, min(B, most) + 1) if B % n == 0)


# --- the transforms in one direction, of lists of equal arrays ---


def _input_row(d: list[Array]) -> list[Array]:
    """Products of the other points' polynomials, applied to 6 neighbours."""
    p, q = P**2, Q**2
    of = lambda a, b: (d[4] - a * d[2], d[3] - a * d[1], b)
    pairs = []
    for even, odd, point in (of(q, P), of(p, Q)):
        pairs += [even + point * odd, even - point * odd]
    ends = [p * q * x - (p + q) * y + z for x, y, z in (d[0:5:2], d[1:6:2])]
    return [ends[0], *pairs, ends[1]]


def _output_row(m: list[Array]) -> list[Array]:
    """4 outputs from the values at the points."""
    s, t = m[1] + m[2], m[3] + m[4]
    u, v = m[1] - m[2], m[3] - m[4]
    return [m[0] + s + t, P * u + Q * v, P**2 * s + Q**2 * t, P**3 * u + Q**3 * v + m[5]]


def _output_row_transposed(g: list[Array]) -> list[Array]:
    """Polynomials with these 4 coefficients, at the points."""
    pairs = []
    for point in (P, Q):
        even, odd = g[0] + point**2 * g[2], point * (g[1] + point**2 * g[3])
        pairs += [even + odd, even - odd]
    return [g[0], *pairs, g[3]]


def _scales() -> tuple[float, float, float]:
    """What the values of a kernel at 0, at P and -P, and at Q and -Q are divided by."""
    p, q = P**2, Q**2
    return p * q, 2 * p * (p - q), 2 * q * (q - p)


def _kernel_row(k: list[Array]) -> list[Array]:
    """Polynomials with these 3 coefficients, at the points, scaled."""
    zero, at_p, at_q = _scales()
    pairs = []
    for point, scale in ((P, at_p), (Q, at_q)):
        even, odd = (k[0] + point**2 * k[2]) / scale, k[1] * (point / scale)
        pairs += [even + odd, even - odd]
    return [k[0] / zero, *pairs, k[2]]


def _kernel_row_transposed(m: list[Array]) -> list[Array]:
    zero, at_p, at_q = _scales()
    s, t = (m[1] + m[2]) / at_p, (m[3] + m[4]) / at_q
    u, v = (m[1] - m[2]) / at_p, (m[3] - m[4]) / at_q
    return [m[0] / zero + s + t, P * u + Q * v, P**2 * s + Q**2 * t + m[5]]


# --- both directions ---


def _input_forward(x: Array) -> Array:
    """(36, tiles, C) of (n, H, W, C)."""
    n, H, W, C = x.shape
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = _input_row([x[:, i : i + H - TILE + 1 : TILE] for i in range(SPAN)])
    # Without the barrier XLA computes the first direction anew for each value of the second.
    x = lax.optimization_barrier(jnp.stack(rows))
    both = _input_row([x[..., i : i + W - TILE + 1 : TILE, :] for i in range(SPAN)])
    return jnp.stack(both, 1).reshape(SPAN**2, -1, C)


def _output_back(product: Array, shape: tuple[int, int, int, int]) -> Array:
    """(n, H, W, D) of (36, tiles, D), where shape is (n, H / 4, W / 4, D)."""
    n, h, w, D = shape
    m = product.reshape(SPAN, SPAN, n, h, w, D)
    m = lax.optimization_barrier(jnp.stack(_output_row(list(m)), 3))
    return jnp.stack(_output_row(list(m)), 4).reshape(n, h * TILE, w * TILE, D)


def _output_transposed(g: Array) -> Array:
    """(36, tiles, D) of (n, H, W, D)."""
    rows = _output_row_transposed([g[:, i::TILE] for i in range(TILE)])
    g = lax.optimization_barrier(jnp.stack(rows))
    both = _output_row_transposed([g[..., i::TILE, :] for i in range(TILE)])
    return jnp.stack(both, 1).reshape(SPAN**2, -1, g.shape[-1])


def _kernel_forward(k: Array) -> Array:
    """(36, C, D) of (3, 3, C, D)."""
    k = jnp.stack(_kernel_row(list(k)))
    both = _kernel_row([k[:, j] for j in range(KERNEL)])
    return jnp.stack(both, 1).reshape(SPAN**2, *k.shape[2:])


def _kernel_transposed(m: Array) -> Array:
    """(3, 3, C, D) of (6, 6, C, D)."""
    m = jnp.stack(_kernel_row_transposed(list(m)))
    return jnp.stack(_kernel_row_transposed([m[:, j] for j in range(SPAN)]), 1)
