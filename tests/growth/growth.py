"""What is linear stays linear: instructions of diff, masks, check and diagnose at sizes that double.

usage: growth.py GROWTH_PROGRAM [SUBJECT]

Of counts c(n) = a + b n the steps c(2n) - c(n) double exactly, whatever a is; a square q n^2 makes them quadruple. Of the last two steps
more than 2.5 times is called quadratic: there the square does a third of what the linear part does. A logarithm adds a few hundredths.
Counts do not depend on the machine's load; threads are one. A square too small to matter at these sizes is not seen.
"""
import math
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

MOST = 2.5


def counted(program, subject):
    """{subject: [(size, instructions)]}"""
    environment = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/out", program, *subject],
                              env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"growth: {program} under callgrind ended with {done.returncode}:\n{done.stderr[-1500:]}")
        for path in Path(folder).iterdir():
            text = path.read_text(encoding="utf-8", errors="replace")
            name = re.search(r"^desc: Trigger: Client Request: (\S+) (\d+)$", text, re.M)
            total = re.search(r"^(?:summary|totals): (\d+)", text, re.M)
            if name and total:
                found.setdefault(name[1], []).append((int(name[2]), int(total[1])))
    return {name: sorted(rows) for name, rows in found.items()}


def main():
    if subprocess.run(["sh", "-c", "command -v valgrind"], capture_output=True, check=False).returncode != 0:
        print("growth: no valgrind here")
        sys.exit(77)
    found = counted(sys.argv[1], sys.argv[2:3])
    bad = not found
    for name, rows in found.items():
        if len(rows) < 4:
            print(f"{name}: {len(rows)} sizes instead of 4")
            bad = True
            continue
        counts = [count for _, count in rows]
        steps = [after - before for before, after in zip(counts, counts[1:])]
        grows = steps[-1] / steps[-2] if steps[-2] > 0 else math.inf
        slope = math.log2(counts[-1] / counts[-2])
        verdict = "linear" if grows <= MOST else "QUADRATIC"
        bad = bad or grows > MOST
        print(f"{name:16} {' '.join(f'{size}:{count / 1e6:.1f}M' for size, count in rows)}  last slope {slope:.2f}, "
              f"step over step {grows:.2f} of {MOST} allowed: {verdict}")
    sys.exit(bad)


main()
