"""Compiles small kernels over the prelude, per instruction set, and runs them in a process."""

import hashlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import pytest

Array = np.ndarray[Any, np.dtype[Any]]
Kernels = dict[str, tuple[str, str]]
Run = Callable[..., Array]

PRELUDE = Path(__file__).resolve().parents[4] / "targets" / "cpu" / "prelude"
FLAGS = (
    "-O2 -std=gnu11 -Wall -Wextra -Werror -Wno-psabi "
    "-ffp-contract=off -fno-math-errno -fno-trapping-math -static"
)
SANITIZE = " -fsanitize=address,undefined -fno-sanitize-recover=all"

AVX512 = "gcc -mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma -mf16c"
COMPILERS = {
    "avx512": AVX512,
    "avx2": "gcc -mavx2 -mfma -mf16c",
    "neon": "aarch64-linux-gnu-gcc",
    "generic": "gcc",
}
"""Instruction sets that every test runs on."""

WITH_DOTS = {
    "avx512vnni": f"{AVX512} -mavx512vnni",
    "neondot": "aarch64-linux-gnu-gcc -march=armv8.2-a+dotprod",
    "avx512bf16": f"{AVX512} -mavx512vnni -mavx512bf16",
    "neonbf16": "aarch64-linux-gnu-gcc -march=armv8.2-a+dotprod+bf16",
}
"""Those with instructions for sums of products of bytes, and of bf16."""

LANES = {"avx512": 16, "avx2": 8, "neon": 4, "generic": 4}
LANES.update(avx512vnni=16, neondot=4, avx512bf16=16, neonbf16=4)
STORED = {"f16": "<u2", "bf16": "<u2"} | {
    f"f8{name}": "u1" for name in ("e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz")
}
DTYPES = STORED | {"f32": "<f4", "f64": "<f8"}
DTYPES.update((f"{kind}{8 * size}", f"<{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8))

# Each buffer ends where a page ends, and the page behind it may not be touched: a lane read or
# written past the end kills the process, masked instructions included.
DRIVER = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
typedef void kernel(const void *const *in, void *out, i64 n);
static void *fenced(size_t bytes) {
  size_t page = 65536, room = (bytes + page - 1) / page * page;
  char *p = mmap(0, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED || mprotect(p + room, page, PROT_NONE)) exit(3);
  return p + room - bytes;
}
static const struct { const char *name; kernel *run; } table[] = {@TABLE@};
int main(int argc, char **argv) { /* name n out-bytes in-bytes... */
  const void *in[4] = {0};
  size_t out_bytes = strtoull(argv[3], 0, 10);
  void *out = fenced(out_bytes);
  for (int i = 4; i < argc; i++) {
    size_t bytes = strtoull(argv[i], 0, 10);
    void *p = fenced(bytes);
    if (fread(p, 1, bytes, stdin) != bytes) return 4;
    in[i - 4] = p;
  }
  for (size_t k = 0; k < sizeof table / sizeof *table; k++)
    if (!strcmp(table[k].name, argv[1])) {
      table[k].run(in, out, strtoll(argv[2], 0, 10));
      return fwrite(out, 1, out_bytes, stdout) != out_bytes;
    }
  return 5;
}
"""


def loop_over(signature: str, expression: str) -> str:
    """A loop with a tail: ``a``, ``b``, ``c`` loaded, ``expression`` stored."""
    sources, target = signature.split("->")
    loads = "".join(
        f"__auto_type {name} = v_load_n_{source}((const {source} *)in[{k}] + i, n - i);\n"
        for k, (name, source) in enumerate(zip("abc", sources.split(","), strict=False))
    )
    store = f"v_store_n_{target}(({target} *)out + i, {expression}, n - i);"
    return f"for (i64 i = 0; i < n; i += TO_LANES) {{\n{loads}{store}\n}}"


def program(headers: str, kernels: Kernels) -> str:
    """The C text of a driver that holds ``kernels``: name to (signature, expression or body)."""
    text = "".join(f'#include "{header}"\n' for header in headers.split())
    for name, (signature, code) in kernels.items():
        body = code if code.endswith((";", "}")) else loop_over(signature, code)
        text += f"static void k_{name}(const void *const *in, void *out, i64 n) {{\n"
        text += f"(void)in, (void)n;\n{body}\n}}\n"
    table = ", ".join(f'{{"{name}", k_{name}}}' for name in kernels)
    return text + DRIVER.replace("@TABLE@", table)


def runnable() -> list[str]:
    """Instruction sets that this machine runs, in itself or (NEON) by emulation."""
    flags = set(Path("/proc/cpuinfo").read_text().split())
    needs = {"avx512": {"avx512f", "avx512bw", "avx512vl", "avx512dq"}, "avx2": {"avx2", "fma"}}
    needs["avx512vnni"] = needs["avx512"] | {"avx512_vnni"}
    needs["avx512bf16"] = needs["avx512vnni"] | {"avx512_bf16"}
    return [isa for isa in (*COMPILERS, *WITH_DOTS) if needs.get(isa, set()) <= flags]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``isa``: once per instruction set, or for those that the module names in ``ISAS``."""
    if "isa" in metafunc.fixturenames:
        module = cast(ModuleType, getattr(metafunc, "module"))
        wanted: tuple[str, ...] = getattr(module, "ISAS", tuple(COMPILERS))
        metafunc.parametrize("isa", [isa for isa in runnable() if isa in wanted])


@pytest.fixture
def lanes(isa: str) -> int:
    """Lanes of every vector of ``isa``."""
    return LANES[isa]


@pytest.fixture(scope="session")
def isas_with_fma() -> list[str]:
    """Instruction sets whose results must agree bit for bit."""
    return [isa for isa in runnable() if isa in COMPILERS and isa != "generic"]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """``build(isa, headers, kernels)`` returns ``run(name, *arrays, n=None, size=None)``."""
    folder = tmp_path_factory.mktemp("prelude")

    def compile_program(isa: str, headers: str, kernels: Kernels, sanitize: bool = False) -> Run:
        text = program(headers, kernels)
        name = f"{isa}-{hashlib.sha256(text.encode()).hexdigest()[:16]}-{sanitize}"
        source, binary = folder / f"{name}.c", folder / name
        if not binary.exists():
            source.write_text(text)
            flags = FLAGS.replace(" -static", SANITIZE).replace("-O2", "-O1") if sanitize else FLAGS
            command = f"{(COMPILERS | WITH_DOTS)[isa]} {flags} -I{PRELUDE} {source} -o {binary} -lm"
            done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{command}\n{done.stderr}"
        is_arm = isa.startswith("neon")
        emulator = shutil.which("qemu-aarch64") if is_arm else None
        assert emulator or not is_arm, "qemu-aarch64 is missing: apt-get install qemu-user"

        def run(
            kernel: str, *arrays: Array, n: int | None = None, size: int | None = None
        ) -> Array:
            dtype = np.dtype(DTYPES[kernels[kernel][0].split("->")[1]])
            count = arrays[0].size if n is None else n
            room = (count if size is None else size) * dtype.itemsize
            command = [emulator] if emulator else []
            command += [str(binary), kernel, str(count), str(room)]
            command += [str(array.nbytes) for array in arrays]
            data = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
            done = subprocess.run(command, input=data, capture_output=True, check=False)
            assert done.returncode == 0, f"{kernel}: {done.returncode} {done.stderr.decode()}"
            return np.frombuffer(done.stdout, dtype)

        return run

    return compile_program
