"""Kernels as C functions that launch, and the table of code objects that they launch from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

from tapeout.targets.gpu.build import Object
from tapeout.targets.gpu.device import Device
from tapeout.targets.gpu.emit.kernel import KernelText, Part
from tapeout.targets.host.text import c_size

C_TYPES = {"i32": "int32_t", "i64": "int64_t"}
"""What a dimension is in C, by its type in a signature."""

CODE_HEAD = """\
/* The functions of every kernel, compiled for each architecture. */
#include "device.h"

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

/* The bytes of a file; those behind its name are its SHA-256. */
#define CODE(name, file, sha256)                                                        \\
  __asm__(".section .rodata\\n"                                                          \\
          ".balign 64\\n"                                                                \\
          ".hidden " TEXT(RT_NAME(name)) "\\n"                                           \\
          ".globl " TEXT(RT_NAME(name)) "\\n"                                            \\
          TEXT(RT_NAME(name)) ":\\n"                                                     \\
          ".incbin \\"" file "\\"\\n"                                                      \\
          ".previous\\n");                                                               \\
  extern const char RT_NAME(name)[] __attribute__((visibility("hidden")))
"""


def launch_text(kernels: Sequence[KernelText], slots: Mapping[str, int]) -> str:
    """``launch.c``; ``slots`` are the places of dimensions in ``session->dims``."""
    lines = ["/* Kernels, as functions that launch them. */", '#include "device.h"', ""]
    number = 0
    for kernel in kernels:
        lines += [f"void RT_NAME({kernel.name})(rt_session *s, void *const *b)", "{"]
        lines.append(
            "  void *none = 0; /* Triton's own scratch: functions that want it are refused */"
        )
        for part in kernel.parts:
            lines += ["  " + line for line in _launch(number, part, kernel, slots)]
            number += 1
        lines += ["}", ""]
    return "\n".join(lines)


def _launch(number: int, part: Part, kernel: KernelText, slots: Mapping[str, int]) -> Iterator[str]:
    places = {name: i for i, name in enumerate(kernel.buffers)}
    names = {symbol: f"s->dims[{slots[symbol]}]" for symbol in part.dims.values()}
    arguments: list[str] = []
    yield f"{{ /* {part.name} */"
    for name, kind in part.signature.items():
        if name in places:
            arguments.append(f"(void *)&b[{places[name]}]")
        else:
            its = C_TYPES[kind]
            yield f"  {its} {name} = ({its}){names[part.dims[name]]};"
            arguments.append(f"&{name}")
    yield f"  void *arguments[] = {{{', '.join([*arguments, '&none', '&none'])}}};"
    yield f"  rt_launch(s, {number}, {c_size(part.programs, names)}, arguments);"
    yield "}"


def file_of(part: str, device: Device, kind: str) -> str:
    """The name of the file that holds a function's code (``cubin``) or its ``ptx``."""
    return f"{part}.{device.name}.{kind}"


def code_text(parts: Sequence[Part], objects: Mapping[Device, Mapping[str, Object]]) -> str:
    """``code.c``: images of the functions ``parts``, by architecture."""
    lines = [CODE_HEAD]
    for device, made in objects.items():
        for part in parts:
            digest = hashlib.sha256(made[part.name].code).hexdigest()
            file = file_of(part.name, device, "cubin")
            lines.append(f'CODE({part.name}_{device.name}, "{file}",\n     "{digest}");')
    images: list[str] = []
    for device, made in objects.items():
        rows = [
            f'  {{"{each.name}", RT_NAME({part.name}_{device.name}), {each.job.warps}, '
            f"{each.shared}}},"
            for part in parts
            for each in [made[part.name]]
        ]
        none = "  {0, 0, 0, 0},"
        lines += ["", f"static const rt_function {device.name}[] = {{", *(rows or [none]), "};"]
        cuda = max((each.cuda for each in made.values()), default=0)
        images.append(f"  {{{device.architecture}, {int(device.exact)}, {cuda}, {device.name}}},")
    table = f"{{{len(images)}, {len(parts)}, images}}"
    return "\n".join(
        [
            *(*lines, "", "static const rt_image images[] = {", *images, "};", ""),
            f"const rt_code RT_NAME(code) = {table};\n",
        ]
    )
