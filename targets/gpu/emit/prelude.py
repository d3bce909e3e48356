"""Functions that emitted kernels call: the head of every emitted file.

Integers in them are those of index expressions, or of tiles; division rounds toward zero in Triton.
"""

import triton
import triton.language as tl


@triton.jit
def to_min(a, b):
    return tl.minimum(a, b)


@triton.jit
def to_max(a, b):
    return tl.maximum(a, b)


@triton.jit
def to_floordiv(a, b):
    q = a // b
    return q - tl.where((a - q * b != 0) & ((a < 0) != (b < 0)), 1, 0)


@triton.jit
def to_mod(a, b):
    r = a % b
    return r + tl.where((r != 0) & ((r < 0) != (b < 0)), b, 0)


@triton.jit
def to_fmin(a, b):
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def to_fmax(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def to_sigmoid(x):
    small = tl.exp(-tl.abs(x))
    return tl.where(x >= 0, 1.0, small) / (1.0 + small)


@triton.jit
def to_log1p(x):
    # Rounding of 1 + x is made up for: Goldberg 1991, theorem 4.
    u = 1.0 + x
    d = u - 1.0
    y = tl.log(u) * (x / tl.where(d == 0, 1.0, d))
    return tl.where(d == 0, x, tl.where(u == float("inf"), u, y))


@triton.jit
def to_expm1(x):
    near = x * (1.0 + x * (0.5 + x * (1.0 / 6 + x * (1.0 / 24 + x * (1.0 / 120)))))
    return tl.where(tl.abs(x) < 0.1, near, tl.exp(x) - 1.0)


@triton.jit
def to_tanh(x):
    a = tl.abs(x)
    e = to_expm1(-2.0 * a)
    y = -e / (e + 2.0)
    return tl.where(x < 0, -y, y)


@triton.jit
def to_softplus(x):
    return tl.maximum(x, 0.0) + to_log1p(tl.exp(-tl.abs(x)))


@triton.jit
def to_trunc(x):
    return tl.where(x < 0, tl.ceil(x), tl.floor(x))


@triton.jit
def to_round(x):
    # Half to even.
    low = tl.floor(x)
    rest = x - low
    odd = low - 2.0 * tl.floor(low * 0.5)
    up = (rest > 0.5) | ((rest == 0.5) & (odd == 1.0))
    return tl.where(up, low + 1.0, low)


@triton.jit
def to_float_floor_mod(a, b):
    r = a - b * to_trunc(a / b)
    return tl.where((r != 0) & ((r < 0) != (b < 0)), r + b, r)


@triton.jit
def to_sinh(x):
    e = to_expm1(tl.abs(x))
    y = 0.5 * (e + e / (e + 1.0))
    y = tl.where(e == float("inf"), e, y)
    return tl.where(x < 0, -y, y)


@triton.jit
def to_asinh(x):
    a = tl.abs(x)
    y = to_log1p(a + a * a / (1.0 + tl.sqrt(a * a + 1.0)))
    y = tl.where(a > 1e15, tl.log(a) + 0.6931471805599453, y)
    return tl.where(x < 0, -y, y)


@triton.jit
def to_atan(x):
    # Halve the angle twice, then the series up to t^11, whose next term is below 1e-11.
    a = tl.abs(x)
    turned = a > 1.0
    t = tl.where(turned, 1.0 / a, a)
    t = t / (1.0 + tl.sqrt(1.0 + t * t))
    t = t / (1.0 + tl.sqrt(1.0 + t * t))
    s = t * t
    y = t * (1 - s * (1 / 3 - s * (1 / 5 - s * (1 / 7 - s * (1 / 9 - s * (1 / 11))))))
    y = 4.0 * y
    y = tl.where(turned, 1.5707963267948966 - y, y)
    return tl.where(x < 0, -y, y)


@triton.jit
def to_asin(x):
    return to_atan(x / tl.sqrt((1.0 - x) * (1.0 + x)))


@triton.jit
def to_product(a, b):
    return a * b


@triton.jit
def to_least(a, b):
    return to_fmin(a, b)


@triton.jit
def to_most(a, b):
    return to_fmax(a, b)


@triton.jit
def to_pow(a, b):
    y = tl.exp(b * tl.log(tl.abs(a)))
    odd = (b - 2.0 * tl.floor(b * 0.5)) == 1.0
    signed = tl.where((a < 0) & odd, -y, y)
    wrong = (a < 0) & (tl.floor(b) != b)
    return tl.where(b == 0, 1.0, tl.where(wrong, float("nan"), signed))


@triton.jit
def to_whole_pow(a, b):
    # Of whole numbers; to_pow may miss one by a rounding, and what is cut off is a fraction.
    return tl.where((b < 0) & (tl.abs(a) > 1), 0.0, to_round(to_pow(a, b)))


@triton.jit
def to_div(a, b):
    return tl.where(b == 0, 0, a // tl.where(b == 0, 1, b))


@triton.jit
def to_trunc_mod(a, b):
    return tl.where(b == 0, 0, a % tl.where(b == 0, 1, b))


@triton.jit
def to_floor_mod(a, b):
    r = to_trunc_mod(a, b)
    return r + tl.where((r != 0) & ((r < 0) != (b < 0)), b, 0)


@triton.jit
def to_shift_left(a, b, bits: tl.constexpr):
    return tl.where((b >= 0) & (b < bits), a << tl.where((b >= 0) & (b < bits), b, 0), 0)


@triton.jit
def to_shift_right(a, b, bits: tl.constexpr):
    return tl.where((b >= 0) & (b < bits), a >> tl.where((b >= 0) & (b < bits), b, 0), 0)


@triton.jit
def to_signed(x):
    return (x ^ 128).to(tl.int8, bitcast=True)


@triton.jit
def to_dot_of_bytes(a, b, c):
    # Tensor cores are asked for signed bytes only: an unsigned one is a signed one plus 128.
    a_moved: tl.constexpr = a.dtype == tl.uint8
    b_moved: tl.constexpr = b.dtype == tl.uint8
    if a_moved:
        a = to_signed(a)
    if b_moved:
        b = to_signed(b)
    c = tl.dot(a, b, c, out_dtype=tl.int32)
    if a_moved:
        c += 128 * tl.sum(b.to(tl.int32), axis=0, keep_dims=True)
    if b_moved:
        c += 128 * tl.sum(a.to(tl.int32), axis=1, keep_dims=True)
    if a_moved and b_moved:
        c += 16384 * a.shape[1]
    return c
