"""What is linear stays linear: instructions and memory of diff, masks, check and diagnose at sizes that double.

usage: growth.py GROWTH_PROGRAM [SUBJECT]

Of counts c(n) = a + b n the steps c(2n) - c(n) double exactly, whatever a is; a square q n^2 makes them quadruple. Of the last two steps
more than 2.5 times is called quadratic: there the square does a third of what the linear part does. A logarithm adds a few hundredths.
Instructions (under callgrind) and the most bytes on the heap (alone, at sizes eight times as large where callgrind has no time for them) do not
depend on the machine's load; threads are one. A square too small to matter at these sizes is not seen. What CONSTANT names holds no more for
more of it: files are mapped, and not on the heap.
"""
import math
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

MOST = 2.5
LITTLE = 64 << 10  # bytes: steps below are a buffer more or less, not growth
CONSTANT = {"diff-cells"}  # in bytes

ONE_THREAD = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")


def ran(command):
    done = subprocess.run(command, env=ONE_THREAD, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"growth: {' '.join(command)} ended with {done.returncode}:\n{done.stderr[-1500:]}")
    return done.stdout


def instructions(program, subject):
    """{subject: [(size, instructions)]}"""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        ran(["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/out", program, *subject])
        for path in Path(folder).iterdir():
            text = path.read_text(encoding="utf-8", errors="replace")
            name = re.search(r"^desc: Trigger: Client Request: (\S+) (\d+)$", text, re.M)
            total = re.search(r"^(?:summary|totals): (\d+)", text, re.M)
            if name and total:
                found.setdefault(name[1], []).append((int(name[2]), int(total[1])))
    return {name: sorted(rows) for name, rows in found.items()}


def heap_bytes(program, subject):
    """{subject: [(size, bytes)]}"""
    found = {}
    for line in ran([program, *subject]).splitlines():
        name, size, _, most = line.split()
        found.setdefault(name, []).append((int(size), int(most)))
    return found


def judged(name, rows, unit, scale, little, constant):
    """Whether it grows as it may; prints a line."""
    if len(rows) < 4:
        print(f"{name}: {len(rows)} sizes instead of 4")
        return False
    counts = [count for _, count in rows]
    steps = [after - before for before, after in zip(counts, counts[1:])]
    line = f"{name:16} {' '.join(f'{size}:{count / scale:.3g}{unit}' for size, count in rows)} "
    if constant:
        good = counts[-1] <= counts[0] + little
        print(f"{line} constant within {little >> 10} KiB: {'yes' if good else 'NO, IT GROWS'}")
        return good
    good = steps[-1] <= MOST * max(steps[-2], little)
    grows = steps[-1] / steps[-2] if steps[-2] > 0 else math.inf
    slope = math.log2(counts[-1] / counts[-2]) if counts[-2] > 0 else 0
    print(f"{line} last slope {slope:.2f}, step over step {grows:.2f} of {MOST} allowed: {'linear' if good else 'QUADRATIC'}")
    return good


def main():
    if subprocess.run(["sh", "-c", "command -v valgrind"], capture_output=True, check=False).returncode != 0:
        print("growth: no valgrind here")
        sys.exit(77)
    good = True
    for counted, unit, scale, little, constant in ((heap_bytes, "kB", 1e3, LITTLE, CONSTANT), (instructions, "M", 1e6, 1, ())):
        found = counted(sys.argv[1], sys.argv[2:3])
        good = good and bool(found)
        for name, rows in found.items():
            good = judged(name, rows, unit, scale, little, name in constant) and good
    sys.exit(not good)


main()
