"""Writes the held-out set: make.py OUT [--seed N] [--only REGEX] [--list]

OUT/models/NAME      config.json and model.safetensors
OUT/traces/CASE/CAP  one trace per case and capture
OUT/cases.json       what each trace is and what must be said about it
"""
import argparse
import json
import os
import re
import shutil
import sys
import time
import zlib

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np  # noqa: E402

from faults import FAULTS, Fault  # noqa: E402
from files_np import Num, round_bf16, write_safetensors, write_trace  # noqa: E402
from models import config_of, program_of, weights_of  # noqa: E402
from parscale_np import Model  # noqa: E402
from skipped import SKIPPED  # noqa: E402
from validate import real_cells  # noqa: E402

CAPTURES = {
    "full": lambda n: True,
    "inner": lambda n: not re.search(r"rotary_emb|replica_rope|model:mask", n),
    "hooks": lambda n: ":" not in n,
    "layers": lambda n: re.fullmatch(r"model\.layers\.\d+|model\.norm|lm_head", n) is not None,
}
WEAK = 4.0  # round-offs
CLEAN_FAMILIES = ["ps", "ps-wide", "ps-p1", "ps-t0", "ps-theta", "ps-linear", "ps-yarn", "ps-gelu", "xa", "xa-rr", "xb", "xkv", "qwen2", "qwen2-win",
                  "qwen2-mix-l3", "qwen2-llama3", "qwen3", "llama", "llama-tp-bias", "llama-llama3", "ps-massive"]


class Store:
    """Models and clean runs, each made once."""

    def __init__(self, out):
        self.out, self.models, self.clean = out, {}, {}

    def model(self, family, seed, dtype):
        key = f"{family}.{seed}.{dtype}"
        if key not in self.models:
            c = config_of(family, seed, dtype)
            w = weights_of(c, family, seed, dtype)
            folder = os.path.join(self.out, "models", key)
            os.makedirs(folder, exist_ok=True)
            json.dump(c, open(os.path.join(folder, "config.json"), "w"), indent=1)
            tag = {"f32": "F32", "bf16": "BF16", "f16": "F16"}[dtype]
            write_safetensors(os.path.join(folder, "model.safetensors"), {k: (v, tag) for k, v in w.items()})
            self.models[key] = c, w, folder
        return self.models[key]

    def run(self, family, seed, dtype, program):
        key = family, seed, dtype, program
        if key not in self.clean:
            c, w, _ = self.model(family, seed, dtype)
            steps = program_of(program, family, seed, c["vocab_size"])
            self.clean[key] = steps, Model(c, w, dtype).run(steps)
        return self.clean[key]


def stored(x, tag):
    x = np.asarray(x)
    if tag == "BF16":
        return round_bf16(x)
    with np.errstate(over="ignore"):
        return x.astype({"F32": np.float32, "F16": np.float16, "F64": np.float64, "BOOL": bool, "I64": np.int64}[tag])


def in_order(points):
    """Names in the table's order, but an op's input before the op."""
    names = list(points)
    for first, then in (("model:aggregate_input", "model.aggregate_layer.0"), ("model.rotary_emb:inv_freq", "model.rotary_emb:cos")):
        if first in names and then in names:
            names.remove(first)
            names.insert(names.index(then), first)
    return names


def differences(model, steps, clean, faulty):
    """[(step, point, shape differs, strength, only in pads)] of every changed value, in order; strength in units of the dtype's round-off."""
    out, past, missing = [], 0, []
    with np.errstate(all="ignore"):
        for n, (st, (a, ta), (b, tb)) in enumerate(zip(steps, clean, faulty)):
            if st.get("op") == "reorder_cache":
                continue
            am = st.get("attention_mask")
            missing += [(n, name) for name in a if name not in b] if b else []
            for name in in_order(b):
                if name not in a:
                    continue
                x, y = stored(a[name], ta[name]), stored(b[name], tb[name])
                if x.shape != y.shape:
                    if not (name == "model:mask" and x.shape[:1] + x.shape[2:] == y.shape[:1] + y.shape[2:]):
                        out.append((n, name, True, float("inf"), False))
                        continue
                    x = np.broadcast_to(x, y.shape)
                if np.array_equal(x, y, equal_nan=x.dtype.kind == "f"):
                    continue
                ok = real_cells(name, y, None if am is None else np.asarray(am), past, model.c.T, model.c.P)
                x, y = x[ok].astype(np.float64), y[ok].astype(np.float64)
                if np.array_equal(x, y, equal_nan=True):
                    out.append((n, name, False, 0.0, True))
                    continue
                unit = Num({"F32": "f32", "F64": "f64"}.get(tb[name], model.num.name)).unit
                s = np.linalg.norm(x - y) / max(np.linalg.norm(x), 1e-300) / unit
                out.append((n, name, False, float(s) if np.isfinite(s) else float("inf"), False))
            past += np.shape(st["input_ids"])[1]
    return out, missing


def plan(f, base):
    """(family, variant, seed): every variant, every family, at most about three runs of one fault unless it has more variants."""
    return [(family, v, seed + 10 * base) for family, v, seed in plain_plan(f)]


def plain_plan(f):
    out = []
    if len(f.variants) == 1:
        for j, family in enumerate(f.on):
            out.append((family, f.variants[0], j))
        if len(f.on) == 1 and f.kind != "clean":  # one family only: two models of it
            out.append((f.on[0], f.variants[0], 1))
        return out
    for j, v in enumerate(f.variants):
        for r in range(2 if len(f.variants) < 3 else 1):
            out.append((f.on[(j + r) % len(f.on)], v, (j + r) % 3))
    return out


def build(store, f, family, variant, seed, dtype, cases, invisible):
    c, w, folder = store.model(family, seed, dtype)
    steps, clean = store.run(family, seed, dtype, f.program)
    name = f"{f.id}{'.' + str(variant) if variant != '' else ''}.{family}.{seed}.{dtype}"
    m = Model(c, w, dtype, seed=zlib.crc32(name.encode()))
    with np.errstate(all="ignore"):
        if f.kind == "clean":
            faulty = clean
        else:
            f.fn(m, variant)
            faulty = m.run(steps)
    used = [i for i, (st, (p, _)) in enumerate(zip(steps, faulty)) if p or st.get("op") == "reorder_cache"]
    diffs, missing = differences(m, steps, clean, faulty)
    for cap, wanted in CAPTURES.items():
        seen = [d for d in diffs if wanted(d[1])]
        real = [d for d in seen if not d[4]]
        if f.id == "numeric-fp16-overflow" and dtype == "f16":  # wrong in the clean run already: say where
            real = [(n, k, False, float("inf"), False) for n, (p, _) in enumerate(clean) for k in in_order(p) if wanted(k) and np.isinf(p[k]).any()]
        if f.kind not in ("clean", "benign") and not real:
            invisible.append(f"{name} [{cap}]")
            continue
        trace = os.path.join(store.out, "traces", name, cap)
        write_trace(trace, c, m.num, [steps[i] for i in used], [faulty[i] for i in used], wanted)
        truth = None
        also = []
        if real and f.kind not in ("clean", "benign"):
            truth = {"step": real[0][0], "point": real[0][1], "strength": real[0][3]}
            also = [[n, k] for n, k, *_ in seen[:1]]
            if real[0][1] == "model.rotary_emb:inv_freq":
                also.append([real[0][0], "model.rotary_emb:cos"])
            also += [[n, k] for n, k in missing if wanted(k)][:40]
            if real[0][3] < WEAK:  # too faint to be asked for there: the same op elsewhere, or the first strong difference
                op = re.sub(r"\.\d+", "", real[0][1])
                also += [[d[0], d[1]] for d in real if re.sub(r"\.\d+", "", d[1]) == op] + [[d[0], d[1]] for d in real if d[3] >= WEAK][:1]
        alias = [a.split("@")[0] for a in f.alias if "@" not in a or a.split("@")[1] in (cap, variant)]
        cases.append({"case": name, "capture": cap, "kind": f.kind, "id": f.id, "variant": str(variant), "family": family, "seed": seed, "dtype": dtype,
                      "program": f.program, "trace": trace, "model": folder, "truth": truth, "also": also, "alias": alias, "accept_unnamed": f.accept_unnamed,
                      "expect": {"clean": "equivalent", "benign": "no error", "invented": "unnamed at truth"}.get(f.kind, "diverged, named")})


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("out")
    ap.add_argument("--only", default="", help="regular expression on the fault's id")
    ap.add_argument("--seed", type=int, default=0, help="another number, another set")
    ap.add_argument("--list", action="store_true", help="print the skipped faults and stop")
    a = ap.parse_args()
    listed = {x["id"] for x in SKIPPED}
    print(f"{len(listed)} faults are skipped:")
    for x in SKIPPED:
        print(f"  {x['id']:40} {x['why']}")
    if a.list:
        return 0
    start = time.time()
    shutil.rmtree(os.path.join(a.out, "traces"), ignore_errors=True)
    store, cases, invisible = Store(a.out), [], []
    todo = [f for f in FAULTS if re.search(a.only, f.id)]
    if re.search(a.only, "clean"):
        todo += [Fault("clean", None, (family,), "nopad-bare" if i % 5 == 4 else "beam" if i % 5 == 2 else "std", ("",), ("f32", "bf16"), (), "clean", False)
                 for i, family in enumerate(CLEAN_FAMILIES)]
    for f in todo:
        for family, variant, seed in plan(f, a.seed):
            for dtype in f.dtypes:
                build(store, f, family, variant, seed, dtype, cases, invisible)
    json.dump({"cases": cases, "skipped": SKIPPED, "invisible": invisible}, open(os.path.join(a.out, "cases.json"), "w"), indent=0)
    print(f"\ninvisible in their capture, hence left out: {len(invisible)}")
    for x in invisible:
        print("  " + x)
    ids = {x["id"] for x in cases if x["kind"] in ("listed", "optional")}
    print(f"\n{len(cases)} traces, {len({x['case'] for x in cases})} runs, {len(ids)} fault ids, {time.time() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
