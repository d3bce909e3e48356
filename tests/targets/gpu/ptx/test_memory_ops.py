"""Loads, stores, copies and atomics of every space and width."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Array = np.ndarray[Any, Any]
Body = Callable[..., Any]


def values(size: int, dtype: Any = np.uint32) -> Array:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, size, dtype, endpoint=True)


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize(
    "modifiers", ["", "L1::evict_last.", "cg.", "nc.L1::no_allocate.L2::128B."]
)
def test_vectors_and_cache_hints(body: Body, count: int, modifiers: str) -> None:
    a = values(32 * count)
    x = np.zeros_like(a)
    regs = ", ".join(f"%r{k}" for k in range(count))
    kernel = body(
        f"""mad.wide.u32 %d0, %t, {4 * count}, %a0; mad.wide.u32 %d1, %t, {4 * count}, %a1;
        ld.global.{modifiers}v{count}.b32 {{{regs}}}, [%d0];
        st.global.L1::evict_first.v{count}.b32 [%d1], {{{regs}}};""",
        pointers=2,
    )
    kernel((1,), a, x)
    np.testing.assert_array_equal(x, a)


@pytest.mark.parametrize(("kind", "dtype"), [("u8", np.uint8), ("s8", np.int8), ("s16", np.int16)])
def test_narrow_loads_widen(body: Body, kind: str, dtype: Any) -> None:
    a, x = values(32, dtype), np.zeros(32, np.int32)
    width = np.dtype(dtype).itemsize
    kernel = body(
        f"""mad.wide.u32 %d0, %t, {width}, %a0; mad.wide.u32 %d1, %t, 4, %a1;
        ld.global.{kind} %r0, [%d0]; st.global.b32 [%d1], %r0;""",
        pointers=2,
    )
    kernel((1,), a, x)
    np.testing.assert_array_equal(x, a.astype(np.int32))


def test_inactive_lanes_touch_nothing(body: Body) -> None:
    a, x = values(5), np.zeros(5, np.uint32)
    kernel = body(
        """mad.wide.u32 %d0, %t, 4, %a0; mad.wide.u32 %d1, %t, 4, %a1; setp.lt.u32 %p0, %t, 5;
        @%p0 ld.global.b32 %r0, [%d0]; @!%p0 mov.u32 %r0, 7; @%p0 st.global.b32 [%d1], %r0;""",
        pointers=2,
    )
    kernel((1,), a, x)
    np.testing.assert_array_equal(x, a)


def test_shared_memory_and_barriers_between_warps(body: Body) -> None:
    a, x = values(128), np.zeros(128, np.uint32)
    kernel = body(
        """.reg .b32 %s; mad.wide.u32 %d0, %t, 4, %a0; mad.wide.u32 %d1, %t, 4, %a1;
        mov.u32 %s, smem; mad.lo.u32 %r1, %t, 4, %s; ld.global.b32 %r0, [%d0];
        st.shared.b32 [%r1], %r0; bar.sync 0;
        sub.u32 %r2, 127, %t; mad.lo.u32 %r2, %r2, 4, %s; ld.shared.b32 %r3, [%r2];
        st.global.b32 [%d1], %r3;""",
        pointers=2,
        warps=4,
        shared=512,
    )
    kernel((1,), a, x)
    np.testing.assert_array_equal(x, a[::-1])


def test_every_lane_has_its_own_local_memory(body: Body) -> None:
    x = np.zeros(64, np.uint32)
    kernel = body(
        """.local .align 8 .b8 depot[16]; .reg .b64 %SPL; mov.b64 %SPL, depot;
        st.local.b32 [%SPL+4], %t; st.local.b32 [%SPL+8], 9; ld.local.b32 %r0, [%SPL+4];
        ld.local.b32 %r1, [%SPL+8]; mad.wide.u32 %d0, %t, 8, %a0;
        st.global.v2.b32 [%d0], {%r0, %r1};"""
    )
    kernel((1,), x)
    np.testing.assert_array_equal(x, np.stack([np.arange(32), np.full(32, 9)], 1).ravel())


def test_the_grid_has_three_axes(body: Body) -> None:
    x = np.zeros(24, np.uint32)
    kernel = body(
        """mov.u32 %r0, %ctaid.x; mov.u32 %r1, %ctaid.y; mov.u32 %r2, %ctaid.z;
        mad.lo.u32 %r3, %r2, 3, %r1; mad.lo.u32 %r3, %r3, 4, %r0; mul.lo.u32 %r4, %r2, 100;
        mad.lo.u32 %r4, %r1, 10, %r4; add.u32 %r4, %r4, %r0; mad.wide.u32 %d0, %r3, 4, %a0;
        setp.eq.u32 %p0, %t, 0; @%p0 st.global.b32 [%d0], %r4;"""
    )
    kernel((4, 3, 2), x)
    wanted = [100 * z + 10 * y + x for z in range(2) for y in range(3) for x in range(4)]
    np.testing.assert_array_equal(x, wanted)


COPY = """.reg .b32 %s; mov.u32 %s, smem; mad.lo.u32 %r1, %t, 16, %s; mad.wide.u32 %d0, %t, 16, %a0;
    mad.wide.u32 %d1, %t, 16, %a1;"""
GIVE = "ld.shared.v4.b32 {%r4, %r5, %r6, %r7}, [%r1]; st.global.v4.b32 [%d1], {%r4, %r5, %r6, %r7};"


@pytest.mark.parametrize("present", [16, 8, 3, 0])
def test_copies_fill_what_the_source_lacks_with_zeros(body: Body, present: int) -> None:
    a, x = values(512, np.uint8), np.zeros(512, np.uint8)
    code = f"""{COPY} cp.async.cg.shared.global [%r1], [%d0], 16, {present};
        cp.async.commit_group; cp.async.wait_group 0; {GIVE}"""
    body(code, pointers=2, shared=512)((1,), a, x)
    wanted = a.reshape(32, 16).copy()
    wanted[:, present:] = 0
    np.testing.assert_array_equal(x.reshape(32, 16), wanted)


def test_a_wait_covers_all_but_the_newest_groups(body: Body) -> None:
    a, x = values(256), np.zeros(128, np.uint32)
    code = f"""{COPY} cp.async.cg.shared.global [%r1], [%d0], 16; cp.async.commit_group;
        cp.async.cg.shared.global [%r1+512], [%d0+512], 16; cp.async.commit_group;
        cp.async.wait_group 1; {GIVE} cp.async.wait_all;"""
    body(code, pointers=2, shared=1024)((1,), a, x)
    np.testing.assert_array_equal(x, a[:128])


@pytest.mark.parametrize("trans", [False, True])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_matrices_are_loaded_as_fragments(body: Body, count: int, trans: bool) -> None:
    a, x = values(4 * 64, np.uint16), np.zeros(32 * count, np.uint32)
    regs = ", ".join(f"%r{8 + k}" for k in range(count))
    stores = "\n".join(f"st.global.b32 [%d1+{4 * k}], %r{8 + k};" for k in range(count))
    code = f"""{COPY} ld.global.v4.b32 {{%r4, %r5, %r6, %r7}}, [%d0];
        st.shared.v4.b32 [%r1], {{%r4, %r5, %r6, %r7}}; bar.warp.sync -1;
        ldmatrix.sync.aligned.m8n8.x{count}{".trans" if trans else ""}.shared.b16 {{{regs}}}, [%r1];
        mad.wide.u32 %d1, %t, {4 * count}, %a1; {stores}"""
    body(code, pointers=2, shared=512)((1,), a, x)
    matrices = a.reshape(4, 8, 8)[:count]
    matrices = matrices.transpose(0, 2, 1) if trans else matrices
    wanted = np.ascontiguousarray(matrices).reshape(count, 32, 2).transpose(1, 0, 2)
    np.testing.assert_array_equal(x.view(np.uint16).reshape(32, count, 2), wanted)


ATOMICS: dict[str, Callable[[int, int], int]] = {
    "add.u32": lambda old, v: (old + v) % 2**32,
    "and.b32": lambda old, v: old & v,
    "or.b32": lambda old, v: old | v,
    "xor.b32": lambda old, v: old ^ v,
    "max.u32": max,
    "min.u32": min,
    "exch.b32": lambda old, v: v,
    "inc.u32": lambda old, v: 0 if old >= v else old + 1,
    "dec.u32": lambda old, v: v if old == 0 or old > v else old - 1,
}


@pytest.mark.parametrize("opcode", ATOMICS)
@pytest.mark.parametrize("space", ["global", "shared"])
def test_atomics_take_turns_in_the_order_of_lanes(body: Body, opcode: str, space: str) -> None:
    a, cells, old = values(64), values(4)[:4], np.zeros(64, np.uint32)
    before = cells.copy()
    where = "%d2" if space == "global" else "%r3"
    code = f""".reg .b32 %s; mov.u32 %s, smem; and.b32 %r0, %t, 3; mad.lo.u32 %r3, %r0, 4, %s;
        mad.wide.u32 %d0, %t, 4, %a0; mad.wide.u32 %d1, %t, 4, %a1; mad.wide.u32 %d2, %r0, 4, %a2;
        ld.global.b32 %r1, [%d0]; setp.lt.u32 %p0, %t, 4;
        @%p0 ld.global.b32 %r5, [%d2]; @%p0 st.shared.b32 [%r3], %r5; bar.sync 0;
        atom.{space}.{opcode} %r2, [{where}], %r1; st.global.b32 [%d1], %r2;"""
    body(code, pointers=3, warps=2, shared=16)((1,), a, old, cells)
    now = [int(c) for c in before]
    for lane in range(64):
        assert int(old[lane]) == now[lane % 4]
        now[lane % 4] = ATOMICS[opcode](now[lane % 4], int(a[lane]))
    if space == "global":
        np.testing.assert_array_equal(cells, now)


def test_compare_and_swap_and_reductions_of_floats(body: Body) -> None:
    cell, total, top = np.zeros(1, np.uint32), np.zeros(1, np.float32), np.zeros(1, np.float16)
    code = """add.u32 %r1, %t, 1; atom.global.acq_rel.gpu.cas.b32 %r0, [%a0], %t, %r1;
        cvt.rn.f32.u32 %r2, %t; red.global.add.f32 [%a1], %r2; cvt.rn.f16.f32 %h0, %r2;
        atom.global.add.noftz.f16 %h1, [%a2], %h0;"""
    body(code, pointers=3)((1,), cell, total, top)
    assert (cell[0], total[0], top[0]) == (32, 496, 496)
