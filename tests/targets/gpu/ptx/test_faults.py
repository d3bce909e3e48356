"""What the interpreter must find: planted accesses, races and waits; and nothing elsewhere."""

import re
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import triton.language as tl  # pyright: ignore[reportMissingTypeStubs]

from tapeout.ir.errors import CompileError

Array = np.ndarray[Any, Any]
Body = Callable[..., Any]
Refusal = Callable[..., str]

MINE = "mad.wide.u32 %d0, %c, 4, %a0;"
HERE = "mad.wide.u32 %d0, %t, 4, %a0;"


@pytest.mark.parametrize(
    ("code", "offset"),
    [
        (f"{HERE} st.global.b32 [%d0], %t;", "byte 124 of argument 0, which has 124 bytes"),
        (f"{HERE} ld.global.b32 %r0, [%d0+-4];", "byte -4 of argument 0, which has 124 bytes"),
        (f"{HERE} ld.global.v2.b32 {{%r0, %r1}}, [%a0+120];", "byte 120 of argument 0"),
        ("mov.b64 %d0, 0; ld.global.b32 %r0, [%d0];", "of argument 0"),
        (f"{HERE} atom.global.add.u32 %r0, [%d0+4096], 1;", "byte 4096 of argument 0"),
        ("cp.async.ca.shared.global [0], [%a0+124], 4;", "byte 124 of argument 0"),
    ],
)
def test_accesses_outside_of_arguments(
    body: Body, refusal: Refusal, code: str, offset: str
) -> None:
    told = refusal(body(code, shared=16), (1,), np.zeros(31, np.uint32))
    assert "error[E0902]" in told
    assert offset in told
    assert "CTA:         (0, 0, 0)" in told


def test_an_access_says_who_where_and_what(body: Body, refusal: Refusal) -> None:
    code = """mov.u32 %r0, %ctaid.y; mad.lo.u32 %c, %r0, 3, %c; mad.lo.u32 %t, %c, 64, %t;
        mad.wide.u32 %d0, %t, 4, %a0; st.global.b32 [%d0+4], %t;"""
    told = refusal(body(code, warps=2), (3, 2), np.zeros(320, np.uint32))
    assert "st.global.b32 [%d0+4], %t;" in told
    assert "PTX line 13" in told
    assert "CTA:         (1, 1, 0)" in told
    assert "thread:      63 (warp 1, lane 31)" in told


def test_a_write_to_what_may_only_be_read(body: Body, refusal: Refusal) -> None:
    x = np.zeros(1, np.uint32)
    x.flags.writeable = False
    body("ld.global.b32 %r0, [%a0];")((1,), x)
    for code in ("st.global.b32 [%a0], 1;", "red.global.add.u32 [%a0], 1;"):
        assert "may only be read" in refusal(body(code), (1,), x)


@pytest.mark.parametrize("code", ["ld.shared.b32 %r0, [16];", "st.shared.b32 [-4], %t;"])
def test_accesses_outside_of_shared_memory(body: Body, refusal: Refusal, code: str) -> None:
    told = refusal(body(code, shared=16), (1,), np.zeros(1, np.uint32))
    assert "error[E0902]" in told
    assert "of shared memory, which has 16 bytes" in told


@pytest.mark.parametrize(
    "code",
    [
        "ld.global.b32 %r0, [%a0+2];",
        "ld.global.v4.b32 {%r0, %r1, %r2, %r3}, [%a0+8];",
        "st.shared.v2.b32 [4], {%t, %t};",
    ],
)
def test_accesses_at_no_multiple_of_their_size(body: Body, refusal: Refusal, code: str) -> None:
    assert "error[E0903]" in refusal(body(code, shared=64), (1,), np.zeros(64, np.uint32))


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("st.global.b32 [%a0], 1;", "writes what another CTA writes"),
        (
            "mad.wide.u32 %d0, %c, 4, %a0; st.global.b32 [%d0], 1; ld.global.b32 %r0, [%a0];",
            "reads",
        ),
        (
            "mad.wide.u32 %d0, %c, 4, %a0; ld.global.b32 %r0, [%a0]; st.global.b32 [%d0], 1;",
            "reads",
        ),
        (
            "red.global.add.u32 [%a0], 1; ld.global.b32 %r0, [%a0];",
            "reads what another CTA updates",
        ),
        ("st.global.b8 [%a0+3], 1; ld.global.b16 %h0, [%a0+2];", "writes what another CTA writes"),
    ],
)
def test_races_between_ctas(body: Body, refusal: Refusal, code: str, what: str) -> None:
    for grid in ((2,), (200,)):
        told = refusal(body(code), grid, np.zeros(256, np.uint32))
        assert "error[E0904]" in told
        assert what in told


@pytest.mark.parametrize(
    "code",
    [
        "mad.wide.u32 %d0, %c, 4, %a0; st.global.b32 [%d0], 1; ld.global.b32 %r0, [%d0];",
        "ld.global.b32 %r0, [%a0];",
        "red.global.add.u32 [%a0], 1;",
        "st.relaxed.gpu.global.b32 [%a0], 1; ld.relaxed.gpu.global.b32 %r0, [%a0];",
        "mad.wide.u32 %d0, %c, 1, %a0; st.global.b8 [%d0], 1;",
    ],
)
def test_no_race_where_ctas_keep_apart(body: Body, code: str) -> None:
    body(code)((200,), np.zeros(256, np.uint32))


ARRIVE = """mad.wide.u32 %d0, %c, 4, %a0; st.global.b32 [%d0+4], %c;
    setp.eq.u32 %p0, %t, 0; mov.u32 %r0, 0; @%p0 atom.global.{sem}.add.u32 %r0, [%a0], 1;
    shfl.sync.idx.b32 %r0, %r0, 0, 31, -1; mov.u32 %r1, %nctaid.x; sub.u32 %r1, %r1, 1;
    setp.ne.u32 %p1, %r0, %r1; @%p1 bra DONE;
    ld.global.b32 %r2, [%a0+4]; st.global.b32 [%a0], 0; DONE:"""


def test_the_last_to_arrive_may_read_what_others_published(body: Body, refusal: Refusal) -> None:
    for grid in ((2,), (300,)):
        x = np.zeros(301, np.uint32)
        body(ARRIVE.format(sem="gpu.acq_rel"))(grid, x)
        assert x[0] == 0
        told = refusal(body(ARRIVE.format(sem="gpu.relaxed")), grid, np.zeros(301, np.uint32))
        assert "reads what another CTA writes" in told
        # Half of a pair orders nothing.
        for sem in ("gpu.acquire", "gpu.release", "cta.acq_rel"):
            told = refusal(body(ARRIVE.format(sem=sem)), grid, np.zeros(301, np.uint32))
            assert "error[E0904]" in told


OWN = "mov.u32 %r0, smem; mad.lo.u32 %r1, %t, 4, %r0; sub.u32 %r2, 63, %t; "
OTHER = "mad.lo.u32 %r2, %r2, 4, %r0; "


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("st.shared.b32 [%r1], %t; ld.shared.b32 %r3, [%r2];", "reads what another warp writes"),
        ("ld.shared.b32 %r3, [%r2]; st.shared.b32 [%r1], %t;", "writes what another warp reads"),
        ("st.shared.b32 [%r0], %t;", "writes what another warp writes"),
        ("cp.async.ca.shared.global [%r1], [%a0], 4; ld.shared.b32 %r3, [%r1];", "still copying"),
        (
            """cp.async.ca.shared.global [%r1], [%a0], 4; cp.async.commit_group;
            cp.async.wait_group 0; ld.shared.b32 %r3, [%r2];""",
            "reads what another warp writes",
        ),
        (
            """cp.async.ca.shared.global [%r1], [%a0], 4; cp.async.commit_group;
            cp.async.wait_group 1; bar.sync 0; ld.shared.b32 %r3, [%r1];""",
            "still copying",
        ),
        (
            "atom.shared.add.u32 %r3, [%r0], 1; ld.shared.b32 %r4, [%r0];",
            "reads what another warp writes",
        ),
    ],
)
def test_races_between_warps(body: Body, refusal: Refusal, code: str, what: str) -> None:
    kernel = body(OWN + OTHER + code, warps=2, shared=256)
    told = refusal(kernel, (3,), np.zeros(1, np.uint32))
    assert "error[E0905]" in told
    assert what in told


@pytest.mark.parametrize(
    "code",
    [
        "st.shared.b32 [%r1], %t; bar.sync 0; ld.shared.b32 %r3, [%r2];",
        "ld.shared.b32 %r3, [%r2]; bar.sync 0; st.shared.b32 [%r1], %t;",
        "st.shared.b32 [%r1], %t; ld.shared.b32 %r3, [%r1];",
        "st.shared.b32 [%r0], 7;",
        """cp.async.ca.shared.global [%r1], [%a0], 4; cp.async.commit_group;
        cp.async.wait_group 0; bar.sync 0; ld.shared.b32 %r3, [%r2];""",
        "atom.shared.add.u32 %r3, [%r0], 1; bar.sync 0; ld.shared.b32 %r4, [%r0];",
    ],
)
def test_no_race_where_warps_wait(body: Body, code: str) -> None:
    body(OWN + OTHER + code, warps=2, shared=256)((3,), np.zeros(1, np.uint32))


def test_a_barrier_that_some_never_reach(body: Body, refusal: Refusal) -> None:
    code = (
        "setp.lt.u32 %p0, %t, 32; @%p0 bra SPIN; bar.sync 0; bra.uni DONE; SPIN: bar.sync 1; DONE:"
    )
    assert "error[E0906]" in refusal(body(code, warps=2), (1,), np.zeros(1, np.uint32))


def test_threads_that_have_ended_are_not_waited_for(body: Body) -> None:
    x = np.zeros(64, np.uint32)
    code = f"{HERE} setp.lt.u32 %p0, %t, 32; @%p0 ret; bar.sync 0; st.global.b32 [%d0], %t;"
    body(code, warps=2)((1,), x)
    np.testing.assert_array_equal(x, np.where(np.arange(64) < 32, 0, np.arange(64)))


def test_a_wait_for_a_cta_that_never_comes(body: Body, refusal: Refusal) -> None:
    code = "WAIT: ld.acquire.gpu.global.b32 %r0, [%a0]; setp.eq.u32 %p0, %r0, 0; @%p0 bra WAIT;"
    assert "error[E0906]" in refusal(body(code), (2,), np.zeros(1, np.uint32))


def test_a_lock_that_ctas_spin_on(body: Body) -> None:
    x = np.zeros(2, np.uint32)
    code = """setp.ne.u32 %p0, %t, 0; @%p0 bra DONE;
        WAIT: atom.global.gpu.acquire.cas.b32 %r0, [%a0], 0, 1; setp.ne.u32 %p1, %r0, 0;
        @%p1 bra WAIT; ld.global.b32 %r1, [%a0+4]; add.u32 %r1, %r1, 1; bra.uni NEXT;
        NEXT: st.global.b32 [%a0+4], %r1; atom.global.gpu.release.exch.b32 %r2, [%a0], 0; DONE:"""
    body(code)((50,), x)
    np.testing.assert_array_equal(x, [0, 50])


@pytest.mark.parametrize(
    ("arguments", "what"),
    [((), "takes 3 arguments"), ((1, 2, 3, 4), "takes 3 arguments"), ((1.5, 0, 0), "no float")],
)
def test_arguments_that_do_not_fit(body: Body, arguments: tuple[Any, ...], what: str) -> None:
    kernel = body("", pointers=3)
    with pytest.raises(CompileError, match=what):
        kernel((1,), *arguments)


def test_arguments_that_overlap_share_their_bytes(body: Body) -> None:
    whole = np.arange(64, dtype=np.uint32)
    code = (
        f"{HERE} ld.global.b32 %r0, [%d0]; mad.wide.u32 %d1, %t, 4, %a1; st.global.b32 [%d1], %r0;"
    )
    body(code, pointers=2)((1,), whole[:48], whole[16:])
    np.testing.assert_array_equal(whole[16:48], np.arange(32))


def test_a_product_specialised_for_multiples_of_16(build: Body, refusal: Refusal) -> None:
    """Launched with 5 columns, which its vector loads do not allow."""
    types = "*bf16 *bf16 *fp32 i32 i32 i32 i32 i32 i32"
    kernel = build(
        "matmul", types, "M N K sam sbk scm", BM=16, BN=16, BK=16, ACC=tl.float32, PREC="ieee"
    )
    a, b = (np.zeros((5, 5), ml_dtypes.bfloat16) for _ in range(2))
    told = refusal(kernel, (1, 1), a, b, np.zeros((5, 5), np.float32), 5, 5, 5, 5, 5, 5)
    assert "error[E0902]" in told or "error[E0903]" in told
    assert "kernels.py:" in told


def test_a_mask_that_is_one_too_wide(build: Body, refusal: Refusal) -> None:
    kernel = build("add", "*fp32 *fp32 *fp32 i32", BLOCK=256)
    x, y, out = (np.zeros(1000, np.float32) for _ in range(3))
    kernel((4,), x, y, out, 1000)
    told = refusal(kernel, (4,), x, y, out, 1001)
    assert "byte 4000 of argument 0, which has 4000 bytes" in told
    assert "CTA:         (3, 0, 0)" in told


def test_a_launch_with_blocks_that_overlap(build: Body, refusal: Refusal) -> None:
    kernel = build("add", "*fp32 *fp32 *fp32 i32", BLOCK=256)
    x, y, out = (np.zeros(1000, np.float32) for _ in range(3))
    told = refusal(kernel.edited(r"%ctaid\.x", "0"), (4,), x, y, out, 1000)
    assert "writes what another CTA writes" in told


@pytest.mark.parametrize("wait", [r"bar\.sync\s+0;", r"cp\.async\.wait_group\s+\d;"])
def test_every_wait_of_a_pipelined_product_is_needed(
    build: Body, refusal: Refusal, wait: str
) -> None:
    types = "*bf16 *bf16 *bf16 i32 i32 i32 i32 i32 i32"
    kernel = build(
        "matmul", types, "K sam sbk scm", BM=64, BN=64, BK=32, ACC=tl.float32, PREC="ieee"
    )
    # Not zeros: warps that write the same bytes do not race.
    rng = np.random.default_rng(0)
    a, b, c = (rng.standard_normal((128, 128)).astype(ml_dtypes.bfloat16) for _ in range(3))
    kernel((2, 2), a, b, c, *[128] * 6)
    waits = len(re.findall(wait, kernel.ptx))
    assert waits >= 2
    for which in range(waits):
        broken = kernel.edited(wait, "", which)
        assert "error[E0905]" in refusal(broken, (2, 2), a, b, c, *[128] * 6)


def test_every_barrier_of_a_reduction_is_needed(build: Body, refusal: Refusal) -> None:
    kernel = build("softmax", "*fp32 *fp32 i32", BLOCK=1024)
    x = np.random.default_rng(0).standard_normal((2, 1000)).astype(np.float32)
    kernel((2,), x, np.zeros_like(x), 1000)
    barriers = kernel.ptx.count("bar.sync")
    assert barriers >= 2
    for which in range(barriers):
        broken = kernel.edited(r"bar\.sync\s+0;", "", which)
        assert "error[E0905]" in refusal(broken, (2,), x, np.zeros_like(x), 1000)
