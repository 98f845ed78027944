"""Runs every command of README.md and docs/ and compares what it prints with what the text says.

python3 tests/docs/run_commands.py BUILD_DIR [FILE...]

A code block with a line that begins with "$ " needs a comment above it:
  <!-- run -->              the commands run, one after the other, in a folder of the document's own
  <!-- run exit=1 -->       the block's last command ends with this code
  <!-- run cuda -->         only where build/parscope has CUDA kernels
  <!-- run without=LIB -->  only where this library cannot be loaded
  <!-- norun: reason -->    not run here, and why
  <!-- setup: command -->   run before what follows, unseen
Every stated line must be printed, in the stated order; "..." stands for anything: alone for lines, within a line for words. The folder
has links to fixtures, docs, tests and build, and `parscope` is on the PATH.
"""

import ctypes
import os
import re
import subprocess
import sys
import tempfile
import textwrap

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MARK = re.compile(r"<!-- (run|norun|setup)(?:: ?| )?(.*?) ?-->$")


def blocks(text):
    """(line number, mark or None, argument, lines) for each setup comment and code block."""
    lines = text.split("\n")
    mark, at = None, 0
    while at < len(lines):
        line = lines[at]
        found = MARK.match(line.strip())
        if found and found[1] == "setup":
            yield at + 1, "setup", found[2], []
        elif found:
            mark = (found[1], found[2])
        elif line.startswith("```"):
            start, body = at + 1, []
            at += 1
            while at < len(lines) and not lines[at].startswith("```"):
                body.append(lines[at])
                at += 1
            yield start, *(mark or (None, "")), body
            mark = None
        elif line.startswith("    ") and (at == 0 or not lines[at - 1].strip() or lines[at - 1].strip().endswith("-->")):
            start, body = at + 1, []
            while at < len(lines) and (lines[at].startswith("    ") or (
                    not lines[at].strip() and at + 1 < len(lines) and lines[at + 1].startswith("    "))):
                body.append(lines[at][4:])
                at += 1
            yield start, *(mark or (None, "")), body
            mark = None
            continue
        elif line.strip():
            mark = None
        at += 1


def commands(body):
    """(command, stated lines) of a block; a command goes on after a backslash."""
    out = []
    for line in body:
        if line.startswith("$ "):
            out.append([line[2:], []])
        elif out and out[-1][0].endswith("\\") and not out[-1][1]:
            out[-1][0] += "\n" + line
        elif out:
            out[-1][1].append(line)
    return out


def differs(stated, printed):
    """The first stated line that is not printed in its place; None when all are."""
    printed = [line.rstrip() for line in printed.split("\n")]
    at = 0
    free = False  # after "...": anything may come in between
    for line in stated:
        line = line.rstrip()
        if line.strip() == "..." or not line:
            free = free or line.strip() == "..."
            continue
        fits = re.compile(".*".join(re.escape(part) for part in line.split("...")))
        while at < len(printed) and not fits.fullmatch(printed[at]):
            if printed[at] and not free:
                return line
            at += 1
        if at == len(printed):
            return line
        at += 1
        free = False
    return None


def applies(argument, build):
    """Whether this machine is one that the block is about."""
    library = re.search(r"without=(\S+)", argument)
    if library:
        try:
            ctypes.CDLL(library[1])
            return False
        except OSError:
            return True
    if "cuda" in argument.split():
        done = subprocess.run([os.path.join(build, "parscope"), "doctor"], stdout=subprocess.PIPE, text=True, timeout=120)
        return "CUDA kernels for sm" in done.stdout
    return True


def run_document(path, build, problems):
    name = os.path.relpath(path, ROOT)
    counts = {"run": 0, "norun": 0}
    with tempfile.TemporaryDirectory() as work, open(path, encoding="utf-8") as f:
        for link in ("fixtures", "docs", "tests"):
            os.symlink(os.path.join(ROOT, link), os.path.join(work, link))
        os.symlink(build, os.path.join(work, "build"))
        env = dict(os.environ, PATH=build + ":" + os.environ["PATH"], NO_COLOR="1", LC_ALL="C.UTF-8")
        for variable in ("GITHUB_STEP_SUMMARY", "GITHUB_ACTIONS"):
            env.pop(variable, None)

        def shell(command):
            return subprocess.run(["bash", "-c", command], cwd=work, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)

        for line, mark, argument, body in blocks(f.read()):
            where = f"{name}:{line}"
            if mark == "setup":
                done = shell(argument)
                if done.returncode:
                    problems.append(f"{where}: setup failed: {done.stdout}")
                continue
            todo = commands(body)
            if not todo:
                continue
            if mark is None:
                problems.append(f"{where}: a command without <!-- run --> or <!-- norun: reason --> above it: {todo[0][0]}")
                continue
            if mark == "norun":
                counts["norun"] += len(todo)
                if not argument:
                    problems.append(f"{where}: norun without a reason")
                continue
            if not applies(argument, build):
                counts["norun"] += len(todo)
                continue
            wanted = int((re.search(r"exit=(\d+)", argument) or [0, 0])[1])
            for i, (command, stated) in enumerate(todo):
                counts["run"] += 1
                done = shell(command)
                code = wanted if i == len(todo) - 1 else 0
                if done.returncode != code:
                    problems.append(f"{where}: $ {command}\n  exit {done.returncode}, expected {code}\n{done.stdout}")
                    continue
                wrong = differs(stated, done.stdout)
                if wrong is not None:
                    problems.append(f"{where}: $ {command}\n  does not print, in this place:\n  {wrong}\n  but:\n{done.stdout}")
    return counts


def run_action(build, problems):
    """The GitHub action's own script, on a run that is right and on one that is wrong."""
    with open(os.path.join(ROOT, ".github", "actions", "parscope", "action.yml"), encoding="utf-8") as f:
        script = textwrap.dedent(re.search(r"- id: run\n.*?run: \|\n((?:        .*\n)+)", f.read(), re.S)[1])
    golden = os.path.join(ROOT, "fixtures", "golden")
    right = f"diff {golden}/parscale/hf_qwen2_rightpad/expected {golden}/parscale/hf_qwen2_rightpad/expected"
    fault = os.path.join(ROOT, "fixtures", "heldout", "rope-interleaved-vs-half")
    wrong = f"diagnose {fault}/trace --model {ROOT}/fixtures/heldout/models/ps.0.f32"
    for command, code in ((f"golden verify {golden}/masks", 0), (right, 0), (wrong, 1)):
        with tempfile.TemporaryDirectory() as work:
            env = dict(os.environ, PARSCOPE=os.path.join(build, "parscope"), COMMAND=command, REPORT="report",
                       GITHUB_OUTPUT=os.path.join(work, "output"), GITHUB_STEP_SUMMARY=os.path.join(work, "summary"))
            done = subprocess.run(["bash", "-c", script], cwd=work, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
            with open(env["GITHUB_OUTPUT"], encoding="utf-8") as f:
                said = f.read()
            good = done.returncode == code and said == f"code={code}\n"
            if not command.startswith("golden"):
                good = good and os.path.exists(os.path.join(work, "report", "report.html")) and (code == 0 or "::error" in done.stdout)
            if not good:
                problems.append(f"action: {command}: exit {done.returncode}, {said}\n{done.stdout}")


def self_test():
    """The comparison can fail, and a missing mark is seen."""
    assert differs(["a", "...", "c"], "a\nb\nc\n") is None
    assert differs(["a", "c"], "a\nb\nc\n") == "c"
    assert differs(["a b..."], "a b c\n") is None and differs(["a ... d"], "a b c d\n") is None
    assert differs(["a ... d"], "a b c\n") == "a ... d"
    assert differs(["a", "d"], "a\n") == "d"
    found = list(blocks("text\n\n    $ x\n    y\n\n<!-- run exit=1 -->\n```\n$ z \\\n  w\n```\n<!-- setup: q -->\n"))
    assert [(b[1], b[2]) for b in found] == [(None, ""), ("run", "exit=1"), ("setup", "q")], found
    assert commands(found[1][3]) == [["z \\\n  w", []]]


def main():
    self_test()
    build = os.path.abspath(sys.argv[1])
    if not os.path.exists(os.path.join(build, "libparscope_reference.so")):
        print("docs: built without LibTorch, most commands cannot run")
        return 77
    files = [os.path.abspath(f) for f in sys.argv[2:]]
    if not files:
        files = [os.path.join(ROOT, "README.md")]
        for folder, _, names in sorted(os.walk(os.path.join(ROOT, "docs"))):
            files += [os.path.join(folder, n) for n in sorted(names) if n.endswith(".md")]
    problems, total = [], {"run": 0, "norun": 0}
    for path in files:
        for kind, n in run_document(path, build, problems).items():
            total[kind] += n
    if len(sys.argv) == 2:
        run_action(build, problems)
    for problem in problems:
        print(problem)
    print(f"docs: {total['run']} commands run, {total['norun']} marked as not run, {len(problems)} problems")
    return 1 if problems or not total["run"] else 0


if __name__ == "__main__":
    sys.exit(main())
