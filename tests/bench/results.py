"""Results of `./dev bench`: what a file of tests/bench/results holds, and how a run is compared with an earlier one.

A row that got slower by more than 10 % and by more than 10 ms is a warning with both numbers, and so is one that got as much faster:
then the old number no longer stands. Never a failure: machines are shared. Only runs of the same kind of machine are compared.
README.md beside this file says what the fields are.
"""
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

FORMAT = "parscope-bench/1"
SHARE, LEAST_MS = 0.10, 10.0
FLAGS = ("avx2", "f16c", "avx512f", "avx512_bf16", "amx_tile")


def machine():
    info = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace") if os.path.exists("/proc/cpuinfo") else ""
    fields = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    fields = {name.strip(): value.strip() for name, value in fields.items()}
    flags = fields.get("flags", "").split()
    return {
        "cpu": fields.get("model name", platform.machine()),
        "family": f"{fields.get('cpu family', '?')}.{fields.get('model', '?')}",
        "cores": len(os.sched_getaffinity(0)),
        "flags": [flag for flag in FLAGS if flag in flags],
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
    }


def commit(source):
    def git(*words):
        done = subprocess.run(["git", "-C", str(source), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    changed = bool(git("status", "--porcelain", "--untracked-files=no"))
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + ("+changes" if changed else "")


def read(path):
    with open(path, encoding="utf-8") as file:
        run = json.load(file)
    if run.get("format") != FORMAT:
        raise ValueError(f"{path}: format: expected {FORMAT}, found {run.get('format')}")
    return run


def kind(run):
    return json.dumps(run["machine"], sort_keys=True)


def newest_earlier(run, folder):
    """The newest run before this one on the same kind of machine, and how many of other machines were passed over."""
    earlier, others = None, 0
    for path in sorted(Path(folder).glob("*.json")):
        other = read(path)
        if other["date"] >= run["date"]:
            continue
        if kind(other) != kind(run):
            others += 1
        elif earlier is None or other["date"] > earlier["date"]:
            earlier = other
    return earlier, others


def changes(run, earlier):
    """(row, before, now) in milliseconds, of the rows that changed by more than both limits."""
    before = {row["name"]: row["ms"] for row in earlier["rows"] if row.get("ms") is not None}
    out = []
    for row in run["rows"]:
        then, now = before.get(row["name"]), row.get("ms")
        if then is None or now is None:
            continue
        if abs(now - then) > SHARE * then and abs(now - then) > LEAST_MS:
            out.append((row["name"], then, now))
    return out


def report(run, folder, out=sys.stdout, ci=None):
    ci = bool(os.environ.get("CI")) if ci is None else ci
    earlier, others = newest_earlier(run, folder)
    if earlier is None:
        what = f"{others} of other machines cannot be compared with" if others else "no earlier one is there"
        print(f"bench: nothing to compare with: {what} (tests/bench/results)", file=out)
        return []
    found = changes(run, earlier)
    for name, then, now in found:
        word = "slower" if now > then else "faster"
        line = f"{name}: {then:.1f} ms at {earlier['commit']} ({earlier['date'][:10]}, load {earlier['load']}), {now:.1f} ms now " \
               f"(load {run['load']}): {abs(now / then - 1):.0%} {word}"
        print(f"::warning title=benchmark::{line}" if ci else f"bench: warning: {line}", file=out)
    if not found:
        print(f"bench: no row changed by more than 10 % and 10 ms since {earlier['commit']} ({earlier['date'][:10]})", file=out)
    return found


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: results.py RUN.json FOLDER")
    try:
        report(read(sys.argv[1]), sys.argv[2])
    except (OSError, ValueError) as error:
        sys.exit(f"bench: {error}")
