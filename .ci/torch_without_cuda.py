"""Makes `import torch` work from the CUDA wheel alone: no CUDA toolkit, none of the 2 GB of libraries that the wheel asks for.

usage: torch_without_cuda.py WHEEL LIBTORCH_DIR SITE_PACKAGES

The wheel's Python side names three libraries that only a GPU needs. Each is replaced by one with the same name and symbols, all of
which end the program and say who was called. LibTorch's CPU libraries, unpacked already for the reference, are linked, not copied.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

LINKED = ("libtorch_cpu.so", "libc10.so", "libgomp.so.1", "libcudart.so.13", "libcupti.so.13")
KEPT = ("libtorch.so", "libtorch_python.so", "libtorch_global_deps.so", "libshm.so", "libc10_cuda.so")
LEFT_OUT = ("torch/lib/", "torch/include/", "torch/bin/", "torch/share/")

# Called while torch is imported: a reference to a function pointer, and a constructor of an object that is only kept.
CALLED_ON_IMPORT = r"""
#include <stdio.h>
#include <stdlib.h>
extern void* _ZTVN10__cxxabiv117__class_type_infoE[];
static void* none;
void* _ZN4c10d15get_gil_checkerEv(void) { return &none; }
static struct { void* table; const char* name; } type = {0, "N4c10d16ProcessGroupNCCL7OptionsE"};
static void* table[32];
static void no_destructor(void* self) { (void)self; }
void _ZN4c10d16ProcessGroupNCCL7OptionsC1Eb(void** self, _Bool high_priority) {
  (void)high_priority;
  type.table = &_ZTVN10__cxxabiv117__class_type_infoE[2];
  table[1] = &type;
  for (int i = 2; i < 32; ++i) table[i] = (void*)no_destructor;
  self[0] = table + 2; /* the virtual functions */
  self[1] = 0;         /* the reference count */
}
"""
ENDS = r"""
#include <stdio.h>
#include <stdlib.h>
__attribute__((visibility("hidden"))) void stub_called(const char* name) {
  fprintf(stderr, "torch_without_cuda: %s was called, which needs the real CUDA libraries\n", name);
  abort();
}
"""
ORDER = "parscope_no_cuda"  # torch registers GPU kernels of its own in Python; this hook of torch's empties their list


def unpack(wheel: Path, site: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            kept = name in {f"torch/lib/{lib}" for lib in KEPT} or name == "torch/bin/torch_shm_manager"
            if not kept and (name.startswith(LEFT_OUT) or not name.startswith(("torch/", "torchgen/", "functorch/", "torch-"))):
                continue
            archive.extract(name, site)
    os.chmod(site / "torch/bin/torch_shm_manager", 0o755)


def symbols(library: Path, *options: str) -> list[list[str]]:
    listed = subprocess.run(["nm", "-D", *options, library], capture_output=True, text=True, check=True).stdout
    return [line.split() for line in listed.splitlines()]


def missing(lib: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Symbols of libtorch_python.so that no library here has: those without a version, and those of versioned libraries."""
    have = {line[-1].split("@")[0] for name in (*LINKED, *KEPT) for line in symbols(lib / name, "--defined-only")}
    plain: list[str] = []
    versioned: dict[str, list[str]] = {}
    for *_, kind, symbol in symbols(lib / "libtorch_python.so", "--undefined-only"):
        name, _, version = symbol.partition("@")
        if name in have:
            continue
        if version.startswith("libcu"):
            versioned.setdefault(version, []).append(name)
        elif not version and kind == "U" and not name.startswith(("Py", "_Py")):
            plain.append(name)
    return plain, versioned


def assembly(names: list[str]) -> str:
    lines = []
    for name in names:
        if name in CALLED_ON_IMPORT:
            continue
        if name.startswith("_ZTI"):  # what typeid reads: a class without bases
            lines += ['.section .data.rel,"aw"', f".globl {name}", f".type {name},@object", f".size {name},16", f"{name}:"]
            lines += [".quad _ZTVN10__cxxabiv117__class_type_infoE+16", f".quad .L{name}", ".section .rodata"]
            lines += [f'.L{name}: .string "{name[4:]}"']
        elif name.startswith("_ZTV"):
            lines += ['.section .data.rel,"aw"', f".globl {name}", f".type {name},@object", f".size {name},512", f"{name}:"]
            lines += [".fill 64,8,0"]
        else:
            lines += [".text", f".globl {name}", f".type {name},@function", f"{name}:", f"leaq .L{name}(%rip),%rdi"]
            lines += ["jmp stub_called", ".section .rodata", f'.L{name}: .string "{name}"']
    return "\n".join([*lines, '.section .note.GNU-stack,"",@progbits', ""])


def build(out: Path, names: list[str], sources: list[str], version: str = "") -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / "stubs.s"]
        files[0].write_text(assembly(names))
        for i, text in enumerate([ENDS, *sources]):
            files.append(Path(folder) / f"{i}.c")
            files[-1].write_text(text)
        options = ["-shared", "-fPIC", "-O1", f"-Wl,-soname,{out.name}"]
        if version:
            (Path(folder) / "map").write_text(f"{version} {{ global: *; }};\n")
            options.append(f"-Wl,--version-script,{folder}/map")
        subprocess.run(["gcc", *options, "-o", out, *files, "-lstdc++"], check=True)


def main() -> None:
    wheel, libtorch, site = map(Path, sys.argv[1:])
    unpack(wheel, site)
    lib = site / "torch/lib"
    for name in LINKED:
        (lib / name).symlink_to(libtorch / "lib" / name)
    plain, versioned = missing(lib)
    build(lib / "libtorch_cuda.so", plain, [CALLED_ON_IMPORT])
    for version, names in versioned.items():
        build(lib / version, names, [], version)
    for name in ("libcudnn.so.9", "libcufile.so.0"):
        if not (lib / name).exists():
            build(lib / name, [], [])
    (site / f"{ORDER}.py").write_text("def none(op_symbol, dispatch_key, graph):\n    return []\n")
    hook = f'import os; os.environ.setdefault("TORCH_PYTHON_NATIVE_USER_GRAPH_ORDER_FN", "{ORDER}.none")\n'
    (site / f"{ORDER}.pth").write_text(hook)


main()
