"""`./dev bench`: product against limit against peers, in one run and one table.

usage: table.py --build DIR [--python PYTHON] [--short] [--keep]

--python has numpy and torch, and the peers where they were asked for; without it those cells say so. --keep adds the run to
tests/bench/results. The rows are measured by the Google Benchmark programs beside this file and by build/parscope itself.
"""
import argparse
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import results

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent.parent
MODEL = SOURCE / "fixtures/models/parscale-bytes"


class Bench:
    def __init__(self, options):
        self.options = options
        self.build = Path(options.build).resolve()
        self.rows = []
        self.python = options.python
        self.environment = dict(os.environ, OPENBLAS_NUM_THREADS=str(results.machine()["cores"]))

    def row(self, name, ms, limit=None, limit_ms=None, peers=(), limited_by="", mib=None, limit_mib=None, phases=None):
        row = {"name": name, "ms": ms, "limit": limit, "limit_ms": limit_ms, "peers": list(peers), "limited_by": limited_by}
        for key, value in (("mib", mib), ("limit_mib", limit_mib), ("phases", phases)):
            if value is not None:
                row[key] = value
        self.rows.append(row)

    def missing(self, name, why):
        self.row(name, None, limited_by=why)

    def benchmark(self, program, pattern, **environment):
        """{name: counters and times} of one program's rows, or their errors."""
        with tempfile.NamedTemporaryFile(suffix=".json") as out:
            done = subprocess.run(
                [self.build / program, f"--benchmark_filter={pattern}", f"--benchmark_out={out.name}", "--benchmark_out_format=json"],
                env={**self.environment, **environment}, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise RuntimeError(f"{program} ended with {done.returncode}: {done.stderr[-400:]}")
            text = Path(out.name).read_text(encoding="utf-8")
        ms = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3}
        found = {}
        for run in json.loads(text)["benchmarks"] if text else ():
            name = re.sub(r"/(iterations:\d+|real_time)", "", run["name"])
            run["ms"] = run.get("real_time", 0) * ms[run.get("time_unit", "ms")]
            found[name] = run
        return found

    def script(self, name, *words):
        if not self.python:
            return {}
        done = subprocess.run([self.python, HERE / name, *words], capture_output=True, text=True, check=False,
                              env={**self.environment, "PYTHONPATH": f"{SOURCE / 'capture'}:{os.environ.get('PYTHONPATH', '')}"})
        if done.returncode != 0:
            print(f"bench: {name} ended with {done.returncode}: {done.stderr[-300:]}", file=sys.stderr)
            return {}
        return json.loads(done.stdout)

    def parscope(self, *words):
        """Milliseconds, peak resident MiB and stdout of a run that finds nothing wrong."""
        start = time.perf_counter()
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            child = subprocess.Popen([self.build / "parscope", *map(str, words)], stdout=out, stderr=err)
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            taken = (time.perf_counter() - start) * 1e3
            out.seek(0), err.seek(0)
            if child.returncode != 0:
                raise RuntimeError(f"parscope {' '.join(map(str, words))} ended with {child.returncode}: {err.read()[-400:]}")
            return taken, usage.ru_maxrss / 1024, out.read()

    # ---- the parts ------------------------------------------------------------------------------

    def diff(self):
        mib = 256 if self.options.short else 1024
        environment = {"PARSCOPE_BENCH_MIB": str(mib)}
        if self.python:
            environment["PARSCOPE_BENCH_PYTHON"] = self.python
        pattern = "ProcessOverRead|OtherTool|/f32|/bf16"
        if self.options.short:
            pattern = "ProcessOverRead|numpy|/f32"
        got = self.benchmark("bench_diff", pattern, **environment)
        peers = []
        for key, label in (("numpy_load_allclose", "numpy, loads and compares"), ("numpy_allclose", "numpy.allclose"),
                           ("torch_testing", "torch.testing.assert_close"), ("polygraphy", "Polygraphy"), ("msprobe", "msprobe")):
            tool = got.get(f"BM_OtherTool/{key}")
            if tool is None:
                continue
            if tool.get("error_occurred"):
                peers.append({"name": label, "ms": None, "note": tool["error_message"]})
                continue
            ms = tool["other_process_ms" if key == "numpy_load_allclose" else "other_ms"]
            peers.append({"name": label, "ms": ms, "ratio": ms / tool["process_ms"]})
        process = got["BM_ProcessOverRead"]
        self.row(f"diff, process, {mib} MiB f32 a side", process["process_ms"], "fused read of both files", process["read_ms"], peers,
                 "reading: page cache to memory, and start-up")
        read = got["BM_FusedRead/f32"]["ms"]
        for dtype in ("f32", "bf16"):
            if f"BM_Compare/{dtype}" in got:
                self.row(f"compare(), {mib} MiB {dtype} a side", got[f"BM_Compare/{dtype}"]["ms"], "fused read of both files, mapped", read,
                         limited_by="reading" if dtype == "f32" else "arithmetic on twice the cells a byte")

    def masks(self, limits):
        got = self.benchmark("bench_masks", "^(build|diff|check_all)/(8192|1048576)$")
        for what, label in (("build", "mask from its program"), ("diff", "difference of two masks")):
            peers = [{"name": f"{lib}, dense", "ms": limits[f"{lib}_{what}"], "ratio": limits[f"{lib}_{what}"] / got[f"{what}/8192"]["ms"]}
                     for lib in ("numpy", "torch") if f"{lib}_{what}" in limits]
            fill = limits.get("fill")
            self.row(f"{label}, 8,192 rows", got[f"{what}/8192"]["ms"], "writing the dense mask once" if fill else None, fill, peers,
                     "the number of runs: one a segment, not a cell")
            self.row(f"{label}, 1,048,576 rows", got[f"{what}/1048576"]["ms"], limited_by="the number of runs; dense it would be 1 TiB")
        self.row("all checks of a mask, 1,048,576 rows", got["check_all/1048576"]["ms"], limited_by="one pass a hypothesis over the runs")

    def model(self, limits):
        shapes = "tiny" if self.options.short else "tiny,qwen2_0.5b"
        got = self.benchmark("bench_model", "P1/(prefill|decode)/", PARSCOPE_BENCH_SHAPES=shapes, PARSCOPE_BENCH_P="1",
                             PARSCOPE_BENCH_DIR=str(self.scratch()))
        weights = 494e6  # of the 0.5B shape, without its tied table twice
        for name, run in got.items():
            if "best_s" not in run:
                continue
            ms = run["best_s"] * 1e3
            shape, _, what = name.split("/")
            limit = limit_ms = None
            if shape != "tiny" and what == "prefill" and "gflops" in limits:
                limit_ms = 2 * (weights * 256) / limits["gflops"] / 1e6
                limit = f"its multiplications at the {limits['gflops']:.0f} GFLOP/s of a 2048-cube here"
            if shape != "tiny" and what == "decode" and "read_gbs" in limits:
                limit_ms = weights * 4 / limits["read_gbs"] / 1e6
                limit = f"reading the weights once at {limits['read_gbs']:.1f} GB/s"
            peers = [{"name": "LibTorch (reference)", "ms": run["reference_s"] * 1e3, "ratio": run["reference_s"] / run["best_s"]}]
            tokens = " of 256 tokens" if what == "prefill" and shape != "tiny" else " of 64 tokens" if what == "prefill" else ""
            self.row(f"model, host, {shape} f32, {what}{tokens}", ms, limit, limit_ms, peers if "reference_s" in run else (),
                     "GEMMs (OpenBLAS)" if what == "prefill" else "memory bandwidth" if shape != "tiny" else "calls of small GEMMs")

    def scratch(self):
        chosen = os.environ.get("PARSCOPE_BENCH_DIR")
        return Path(chosen) if chosen else Path(tempfile.gettempdir())

    def check_of(self, name, model, *inputs, times=3):
        runs = []
        for _ in range(times):
            ms, _, out = self.parscope("check", model, "--device", "host", "--json", "--profile", *inputs)
            runs.append((ms, json.loads(out)["timing"]))
        ms, timing = min(runs, key=lambda run: run[0])
        phases = {key[6:-8]: value for key, value in timing.items() if key.startswith("phase_") and key.endswith("_seconds")}
        own = max(value for key, value in timing.items() if key.endswith("_own_bytes")) / 2**20
        with tempfile.TemporaryDirectory() as folder:
            plain = [i for i in inputs if i != "--natural"]
            alone = min(self.parscope("trace", model, "--engine", "reference", "--dtype", "f64", "--points", "lm_head", "-o", f"{folder}/{i}", *plain)[0]
                        for i in range(times))
        longest = sorted(phases.items(), key=lambda item: -item[1])[:3]
        self.row(name, ms, "the float64 reference alone, same inputs", alone, phases=phases,
                 limited_by=", ".join(f"{phase} {seconds / sum(phases.values()):.0%}" for phase, seconds in longest))
        return own, timing

    def check(self):
        own, _ = self.check_of("check, tiny ParScale, 3x13 and 2 steps", MODEL, "--random", "3x13", "--steps", "2")
        self.row("check, tiny ParScale: peak memory of its own", None, mib=own, limited_by="not profiled; LibTorch just opened has about 60 MiB")
        large = self.scratch() / "parscope-bench-qwen2_0.5b-p1"
        if not self.options.short and large.is_dir():
            own, _ = self.check_of("check, 0.5B shape f32, 16 tokens", large, "--random", "1x16", "--natural", times=1)
            self.row("check, 0.5B shape f32: peak memory of its own", None, mib=own, limit="lm_head widened to float64 at once", limit_mib=151936 * 896 * 8 / 2**20,
                     limited_by="not profiled")

    def diagnose(self):
        got = self.benchmark("bench_diagnose", "DiagnoseOverCheck")
        run = got["BM_DiagnoseOverCheck"]
        self.row("diagnose, tiny ParScale, mean of 9 faults", run["diagnose_s"] * 1e3, "the check of the same run", run["check_s"] * 1e3,
                 limited_by="start-up of LibTorch, faults replayed")

    def capture(self):
        got = self.script("capture_overhead.py")
        if not got:
            return self.missing("capture of a 8-layer Qwen2 in transformers", "no Python with torch and transformers (./dev foreign)")
        self.row("capture of a 8-layer Qwen2 in transformers, 128 tokens", got["recorded"], "the bare forward and a plain write of the trace",
                 got["bare"] + got["write"], [{"name": "the bare forward", "ms": got["bare"], "ratio": got["bare"] / got["recorded"]}],
                 f"not profiled; the trace has {got['bytes'] / 2**20:.0f} MiB")

    def cuda(self):
        if shutil.which("nvidia-smi") and subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).returncode == 0:
            return self.missing("model, CUDA", "./dev gpu bench measures it (tests/gpu/report.md)")
        for what in ("prefill against cuBLASLt", "decode against memory bandwidth", "attention against PyTorch SDPA"):
            self.missing(f"model, CUDA, {what}", "no GPU here")

    def run(self):
        limits = self.script("other_limits.py", "8192")
        parts = [("diff", self.diff), ("masks", lambda: self.masks(limits)), ("model", lambda: self.model(limits)), ("check", self.check)]
        if not self.options.short:
            parts += [("diagnose", self.diagnose), ("capture", self.capture)]
        for name, part in [*parts, ("cuda", self.cuda)]:
            start = time.perf_counter()
            try:
                part()
            except (RuntimeError, KeyError, OSError) as error:
                self.missing(name, f"failed: {str(error).strip().splitlines()[-1][:160]}")
            print(f"bench: {name} took {time.perf_counter() - start:.0f} s", file=sys.stderr)


def ms_text(ms):
    return "" if ms is None else f"{ms:.3g} ms" if ms < 100 else f"{ms:.0f} ms"


def table(rows):
    lines = ["| what | measured | limit, in this run | measured/limit | peers | what limits it now |", "|---|---|---|---|---|---|"]
    for row in rows:
        measured = ms_text(row["ms"]) or (f"{row['mib']:.0f} MiB" if "mib" in row else "")
        limit, ratio = row["limit"] or "", ""
        if row["limit_ms"] is not None:
            limit += f": {ms_text(row['limit_ms'])}"
            ratio = f"{row['ms'] / row['limit_ms']:.2g}" if row["ms"] else ""
        elif "limit_mib" in row:
            limit += f": {row['limit_mib']:.0f} MiB"
            ratio = f"{row['mib'] / row['limit_mib']:.2g}"
        peers = "; ".join(f"{p['name']} {ms_text(p['ms'])} ({p['ratio']:.3g}x)" if p["ms"] is not None else f"{p['name']}: {p['note']}"
                          for p in row["peers"])
        lines.append(f"| {row['name']} | {measured} | {limit} | {ratio} | {peers} | {row['limited_by']} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--python", default="")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    now = datetime.datetime.now(datetime.timezone.utc)
    bench = Bench(options)
    load = os.getloadavg()[0]
    bench.run()
    run = {"format": results.FORMAT, "date": now.strftime("%Y-%m-%dT%H:%M:%SZ"), "commit": results.commit(SOURCE), "load": round(load, 1),
           "machine": results.machine(), "rows": bench.rows}
    print(table(bench.rows))
    m = run["machine"]
    print(f"\n{m['cpu']}, {m['cores']} cores, {' '.join(m['flags'])}, {m['memory_gib']} GiB, load {run['load']}; {run['commit']}, {run['date']}")
    text = json.dumps(run, indent=1) + "\n"
    (bench.build / "bench.json").write_text(text, encoding="utf-8")
    results.report(run, HERE / "results")
    if options.keep:
        (HERE / "results").mkdir(exist_ok=True)
        path = HERE / "results" / f"{now:%Y%m%d-%H%M%S}-{run['commit'].removesuffix('+changes')}.json"
        path.write_text(text, encoding="utf-8")
        print(f"bench: kept as {path.relative_to(SOURCE)}")
    sys.exit(any("failed: " in row["limited_by"] for row in bench.rows))


main()
