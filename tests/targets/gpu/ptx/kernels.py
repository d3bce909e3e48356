"""Triton kernels, one per thing that the interpreter must get right."""

# What @triton.jit makes of these functions is not what Python says they are.
# pyright: basic, reportAttributeAccessIssue=false, reportOperatorIssue=false
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false
import triton
import triton.language as tl
from triton.language.extra import libdevice


@triton.jit
def add(x, y, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    a = tl.load(x + i, mask=i < n)
    b = tl.load(y + i, mask=i < n)
    tl.store(out + i, a + b, mask=i < n)


@triton.jit
def softmax(x, out, cols, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    i = tl.arange(0, BLOCK)
    v = tl.load(x + row * cols + i, mask=i < cols, other=float("-inf")).to(tl.float32)
    e = tl.exp(v - tl.max(v, 0))
    tl.store(out + row * cols + i, (e / tl.sum(e, 0)).to(out.dtype.element_ty), mask=i < cols)


@triton.jit
def layer_norm(x, w, b, out, cols, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    i = tl.arange(0, BLOCK)
    v = tl.load(x + row * cols + i, mask=i < cols, other=0).to(tl.float32)
    mean = tl.sum(v, 0) / cols
    d = tl.where(i < cols, v - mean, 0.0)
    rstd = tl.rsqrt(tl.sum(d * d, 0) / cols + eps)
    g = tl.load(w + i, mask=i < cols).to(tl.float32)
    s = tl.load(b + i, mask=i < cols).to(tl.float32)
    tl.store(out + row * cols + i, (d * rstd * g + s).to(out.dtype.element_ty), mask=i < cols)


@triton.jit
def matmul(
    a,
    b,
    c,
    M,
    N,
    K,
    sam,
    sbk,
    scm,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    ACC: tl.constexpr,
    PREC: tl.constexpr,
):
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    acc = tl.zeros((BM, BN), ACC)
    for k0 in range(0, K, BK):
        x = tl.load(
            a + m[:, None] * sam + (k0 + k)[None, :],
            mask=(m[:, None] < M) & ((k0 + k)[None, :] < K),
            other=0,
        )
        y = tl.load(
            b + (k0 + k)[:, None] * sbk + n[None, :],
            mask=((k0 + k)[:, None] < K) & (n[None, :] < N),
            other=0,
        )
        acc = tl.dot(x, y, acc, input_precision=PREC, out_dtype=ACC)
    tl.store(
        c + m[:, None] * scm + n[None, :],
        acc.to(c.dtype.element_ty),
        mask=(m[:, None] < M) & (n[None, :] < N),
    )


@triton.jit
def attention(
    q,
    k,
    v,
    out,
    S,
    scale,
    D: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    CAUSAL: tl.constexpr,
):
    head = tl.program_id(1) * S * D
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    d = tl.arange(0, D)
    x = tl.load(q + head + m[:, None] * D + d[None, :], mask=m[:, None] < S, other=0)
    top = tl.full((BM,), float("-inf"), tl.float32)
    total = tl.zeros((BM,), tl.float32)
    acc = tl.zeros((BM, D), tl.float32)
    hi = tl.minimum(S, (tl.program_id(0) + 1) * BM) if CAUSAL else S
    for n0 in range(0, hi, BN):
        n = n0 + tl.arange(0, BN)
        y = tl.load(k + head + n[:, None] * D + d[None, :], mask=n[:, None] < S, other=0)
        s = tl.dot(x, tl.trans(y)) * (scale * 1.4426950408889634)
        keep = n[None, :] < S
        if CAUSAL:
            keep = keep & (n[None, :] <= m[:, None])
        s = tl.where(keep, s, float("-inf"))
        new = tl.maximum(top, tl.max(s, 1))
        p = tl.exp2(s - new[:, None])
        shrink = tl.exp2(top - new)
        z = tl.load(v + head + n[:, None] * D + d[None, :], mask=n[:, None] < S, other=0)
        total = total * shrink + tl.sum(p, 1)
        acc = tl.dot(p.to(z.dtype), z, acc * shrink[:, None])
        top = new
    tl.store(
        out + head + m[:, None] * D + d[None, :],
        (acc / total[:, None]).to(out.dtype.element_ty),
        mask=m[:, None] < S,
    )


@triton.jit
def reduce_rows(x, s, mx, mn, am, cols, R: tl.constexpr, BLOCK: tl.constexpr):
    r = tl.program_id(0) * R + tl.arange(0, R)
    i = tl.arange(0, BLOCK)
    v = tl.load(x + r[:, None] * cols + i[None, :], mask=i[None, :] < cols, other=0)
    tl.store(s + r, tl.sum(v, 1))
    tl.store(mx + r, tl.max(v, 1))
    tl.store(mn + r, tl.min(v, 1))
    tl.store(am + r, tl.argmax(v, 1))


@triton.jit
def scan_rows(x, c, p, cols, R: tl.constexpr, BLOCK: tl.constexpr):
    r = tl.arange(0, R)
    i = tl.arange(0, BLOCK)
    at = r[:, None] * cols + i[None, :]
    v = tl.load(x + at)
    tl.store(c + at, tl.cumsum(v, 1))
    tl.store(p + at, tl.cumsum(v, 0))


@triton.jit
def histogram(x, f, i32, mx, mn, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    b = tl.load(x + i, mask=i < n, other=0)
    tl.atomic_add(f + b, 1.5, mask=i < n)
    tl.atomic_add(i32 + b, 1, mask=i < n, sem="relaxed")
    tl.atomic_max(mx + b, i, mask=i < n)
    tl.atomic_min(mn + b, i, mask=i < n)


@triton.jit
def atomics_misc(x, out, old, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    v = tl.load(x + i)
    a = tl.atomic_xchg(out + i, v)
    b = tl.atomic_and(out + i, 0xFF)
    c = tl.atomic_or(out + i, 0x100)
    d = tl.atomic_xor(out + i, 0x3)
    e = tl.atomic_cas(out + i, v, v + 1)
    tl.store(old + i, a + b + c + d + e)


@triton.jit
def half_atomics(x, f16, fmax, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + i, mask=i < n, other=0)
    tl.atomic_add(f16 + i % 16, v.to(tl.float16), mask=i < n)
    tl.atomic_max(fmax + i % 16, v, mask=i < n)


@triton.jit
def split_sum(x, partial, counter, out, n, parts, BLOCK: tl.constexpr):
    """The last CTA to arrive adds what the others left."""
    pid = tl.program_id(0)
    i = pid * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + i, mask=i < n, other=0)
    tl.store(partial + i, v * 2)
    tl.debug_barrier()
    arrived = tl.atomic_add(counter, 1, sem="acq_rel")
    if arrived == parts - 1:
        acc = tl.zeros((BLOCK,), tl.float32)
        for p in range(parts):
            acc += tl.load(partial + p * BLOCK + tl.arange(0, BLOCK))
        tl.store(out + tl.arange(0, BLOCK), acc)
        tl.store(counter, 0)


@triton.jit
def locked_sum(x, lock, out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    v = tl.load(x + tl.program_id(0) * BLOCK + i)
    while tl.atomic_cas(lock, 0, 1) == 1:
        pass
    tl.store(out + i, tl.load(out + i) + v)
    tl.debug_barrier()
    tl.atomic_xchg(lock, 0)


@triton.jit
def gather(x, index, out, picked, cols, R: tl.constexpr, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    i = tl.arange(0, BLOCK)
    j = tl.load(index + i)
    tl.store(out + r * BLOCK + i, tl.load(x + r * cols + j))
    rows = tl.arange(0, R)[:, None] * cols + i[None, :]
    v = tl.load(x + rows)
    jj = tl.load(index + i)[None, :] + tl.zeros((R, BLOCK), tl.int32)
    tl.store(picked + rows + r * R * cols, tl.gather(v, jj, 1))


@triton.jit
def transpose(x, out, M, N, BM: tl.constexpr, BN: tl.constexpr):
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    v = tl.load(x + m[:, None] * N + n[None, :], mask=(m[:, None] < M) & (n[None, :] < N))
    tl.store(
        out + n[:, None] * M + m[None, :], tl.trans(v), mask=(n[:, None] < N) & (m[None, :] < M)
    )


@triton.jit
def dequant_matmul(a, q, s, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """``c = a @ ((q - 8) * s)``, two nibbles of K in a byte."""
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    acc = tl.zeros((BM, BN), tl.float32)
    k = tl.arange(0, BK)
    h = tl.arange(0, BK // 2)
    for k0 in range(0, K, BK):
        x = tl.load(a + m[:, None] * K + (k0 + k)[None, :], mask=m[:, None] < M, other=0)
        p = tl.load(q + (k0 // 2 + h)[:, None] * N + n[None, :], mask=n[None, :] < N, other=0)
        lo = (p & 15).to(tl.int8) - 8
        hi = (p >> 4).to(tl.int8) - 8
        w = tl.join(lo, hi).permute(0, 2, 1).reshape(BK, BN)
        scale = tl.load(s + (k0 // BK) * N + n, mask=n < N, other=0)
        acc += tl.dot(x, w.to(tl.bfloat16)) * scale[None, :]
    tl.store(c + m[:, None] * N + n[None, :], acc, mask=(m[:, None] < M) & (n[None, :] < N))


@triton.jit
def maths(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    v = tl.load(x + i)
    p = tl.abs(v) + 0.1
    tl.store(out + 0 * BLOCK + i, tl.exp(v))
    tl.store(out + 1 * BLOCK + i, tl.log(p))
    tl.store(out + 2 * BLOCK + i, tl.exp2(v))
    tl.store(out + 3 * BLOCK + i, tl.log2(p))
    tl.store(out + 4 * BLOCK + i, tl.sin(v))
    tl.store(out + 5 * BLOCK + i, tl.cos(v))
    tl.store(out + 6 * BLOCK + i, tl.sqrt(p))
    tl.store(out + 7 * BLOCK + i, tl.sqrt_rn(p))
    tl.store(out + 8 * BLOCK + i, tl.rsqrt(p))
    tl.store(out + 9 * BLOCK + i, tl.erf(v))
    tl.store(out + 10 * BLOCK + i, v / p)
    tl.store(out + 11 * BLOCK + i, tl.div_rn(v, p))
    tl.store(out + 12 * BLOCK + i, tl.fdiv(v, p))
    tl.store(out + 13 * BLOCK + i, tl.floor(v))
    tl.store(out + 14 * BLOCK + i, tl.ceil(v))
    tl.store(out + 15 * BLOCK + i, tl.sigmoid(v))
    tl.store(out + 16 * BLOCK + i, tl.fma(v, p, v))
    tl.store(out + 17 * BLOCK + i, libdevice.tanh(v))
    tl.store(out + 18 * BLOCK + i, libdevice.pow(p, v))
    tl.store(out + 19 * BLOCK + i, libdevice.rint(v * 10))
    tl.store(out + 20 * BLOCK + i, libdevice.expm1(v))
    tl.store(out + 21 * BLOCK + i, libdevice.log1p(p))
    tl.store(out + 22 * BLOCK + i, libdevice.atan2(v, p))
    tl.store(out + 23 * BLOCK + i, libdevice.fast_cosf(v))
    tl.store(out + 24 * BLOCK + i, libdevice.round(v * 10))
    tl.store(out + 25 * BLOCK + i, libdevice.fmod(v, p))
    tl.store(out + 26 * BLOCK + i, tl.clamp(v, -1.0, 1.0))
    tl.store(out + 27 * BLOCK + i, libdevice.isnan(v).to(tl.float32))
    tl.store(
        out + 28 * BLOCK + i,
        tl.minimum(v, p, propagate_nan=tl.PropagateNan.ALL) + libdevice.acos(v),
    )


@triton.jit
def integers(x, y, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a = tl.load(x + i)
    b = tl.load(y + i)
    tl.store(out + 0 * BLOCK + i, a // b)
    tl.store(out + 1 * BLOCK + i, a % b)
    tl.store(out + 2 * BLOCK + i, tl.umulhi(a.to(tl.uint32), b.to(tl.uint32)).to(tl.int32))
    tl.store(out + 3 * BLOCK + i, a << (b & 31))
    tl.store(out + 4 * BLOCK + i, a >> (b & 31))
    tl.store(out + 5 * BLOCK + i, (a.to(tl.int64) * b.to(tl.int64) >> 7).to(tl.int32))
    tl.store(out + 6 * BLOCK + i, tl.minimum(a, b) + tl.maximum(a, b) * tl.abs(a))
    tl.store(out + 7 * BLOCK + i, (a ^ b) | (a & ~b))
    tl.store(out + 8 * BLOCK + i, libdevice.clz(a) + libdevice.popc(b))
    tl.store(out + 9 * BLOCK + i, libdevice.brev(a))
    tl.store(out + 10 * BLOCK + i, libdevice.byte_perm(a, b, 0x5410))
    tl.store(
        out + 11 * BLOCK + i,
        (a.to(tl.uint32) >> 3).to(tl.int32) + (a.to(tl.int16) * b.to(tl.int16)).to(tl.int32),
    )
    tl.store(out + 12 * BLOCK + i, ((a.to(tl.int64) << 20) // b).to(tl.int32))
    tl.store(out + 13 * BLOCK + i, a.to(tl.uint8).to(tl.int32) + a.to(tl.int8).to(tl.int32))
    tl.store(out + 14 * BLOCK + i, libdevice.ffs(a) + libdevice.mulhi(a, b))


@triton.jit
def conversions(x, f16, bf16, i8, u8, i32, i64, f64, e5, e4, back, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    v = tl.load(x + i)
    tl.store(f16 + i, v.to(tl.float16))
    tl.store(bf16 + i, v.to(tl.bfloat16))
    tl.store(i8 + i, v.to(tl.int8))
    tl.store(u8 + i, v.to(tl.int32).to(tl.uint8))
    tl.store(i32 + i, v.to(tl.int32))
    tl.store(i64 + i, v.to(tl.int64))
    tl.store(f64 + i, v.to(tl.float64) * 3.0)
    a = v.to(tl.float8e5)
    b = v.to(tl.float8e4b15)
    tl.store(e5 + i, a)
    tl.store(e4 + i, b)
    h = tl.load(f16 + i)
    g = tl.load(bf16 + i)
    tl.store(back + i, a.to(tl.float32) + b.to(tl.float32) + h * h + (g + g * g).to(tl.float32))
    tl.store(
        back + BLOCK + i,
        v.to(tl.int32).to(tl.float32)
        + v.to(tl.uint32).to(tl.float32)
        + v.to(tl.int64).to(tl.float32)
        + v.to(tl.int8).to(tl.float16),
    )


@triton.jit
def half_maths(x, y, out, dt: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a = tl.load(x + i)
    b = tl.load(y + i)
    tl.store(out + i, a + b)
    tl.store(out + BLOCK + i, a * b)
    tl.store(out + 2 * BLOCK + i, a - b)
    tl.store(out + 3 * BLOCK + i, tl.where(a > b, a, -b))
    tl.store(out + 4 * BLOCK + i, tl.maximum(a, b) + tl.minimum(a, b))
    tl.store(out + 5 * BLOCK + i, a / b)
    tl.store(out + 6 * BLOCK + i, a * b + a)
    tl.store(out + 7 * BLOCK + i, tl.abs(a))


@triton.jit
def sorting(x, out, flip, hist, R: tl.constexpr, BLOCK: tl.constexpr):
    r = tl.arange(0, R)
    i = tl.arange(0, BLOCK)
    at = r[:, None] * BLOCK + i[None, :]
    v = tl.load(x + at)
    tl.store(out + at, tl.sort(v, 1))
    tl.store(flip + at, tl.flip(v, 1))
    k = tl.load(x + i)
    tl.store(hist + tl.arange(0, 64), tl.histogram(k & 63, 64))


@triton.jit
def dropout(x, out, seed, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    u = tl.rand(seed, i)
    tl.store(out + i, tl.where(u > 0.25, tl.load(x + i), 0.0) + tl.randn(seed, i))


@triton.jit
def prefix(ga, a, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    g = tl.load(ga + i)
    v = tl.load(a + i)
    _, h = tl.associative_scan((g, v), 0, recurrence)
    tl.store(out + i, h)


@triton.jit
def recurrence(g0, v0, g1, v1):
    return g0 * g1, v0 * g1 + v1


SPLIT = tl.constexpr(
    "{ .reg .b32 t; and.b32 t, $2, 0x0f0f0f0f; mov.b32 $0, t; "
    "shr.u32 t, $2, 4; and.b32 $1, t, 0x0f0f0f0f; }"
)


@triton.jit
def packed(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    v = tl.load(x + i)
    (lo, hi) = tl.inline_asm_elementwise(
        asm=SPLIT,
        constraints="=r,=r,r",
        args=[v],
        dtype=(tl.uint8, tl.uint8),
        is_pure=True,
        pack=4,
    )
    tl.store(out + i, lo)
    tl.store(out + BLOCK + i, hi)
    tl.device_assert(n > 0)


@triton.jit
def persistent(x, out, rows, cols, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    for r in tl.range(tl.program_id(0), rows, tl.num_programs(0), num_stages=3):
        v = tl.load(
            x + r * cols + i,
            mask=i < cols,
            other=0.0,
            eviction_policy="evict_first",
            cache_modifier=".cg",
        )
        tl.store(
            out + r * cols + i,
            v * 2 + tl.load(x + i, eviction_policy="evict_last"),
            mask=i < cols,
            cache_modifier=".cs",
        )
