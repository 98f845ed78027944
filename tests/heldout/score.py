"""Runs `parscope diagnose TRACE --model DIR --json` over a held-out set and scores it: score.py OUT --parscope BIN

Columns, counted over traces:
  n       traces of the fault
  det     verdict is not 'equivalent'
  loc     first_divergence is the point and step where the fault first shows in this capture
  named   the first finding that is an error has the fault's id (alias: an id whose text is the same injection)
  unnam   ... is 'unnamed'
  MIS     ... has another id: worse than unnamed
  weak    not detected, and the change is below --weak round-offs of the dtype, so nobody could ask for it
"""
import argparse
import collections
import concurrent.futures
import json
import re
import subprocess
import sys


def diagnose(binary, case, timeout):
    try:
        p = subprocess.run([binary, "diagnose", case["trace"], "--model", case["model"], "--json", "--threads", "1"],
                           capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return {"rc": -1, "why": "timeout"}
    try:
        d = json.loads(p.stdout)
    except ValueError:
        return {"rc": p.returncode, "why": (p.stderr.strip().splitlines() or ["no JSON"])[-1][:300]}
    fd = d.get("first_divergence")
    return {"rc": p.returncode, "verdict": d["verdict"], "at": fd and [fd["step"], fd["point"]],
            "findings": [[f["id"], f["severity"], f["confidence"], f.get("point")] for f in d["findings"]]}


def judge(case, r, weak):
    """One flat record."""
    out = {k: case[k] for k in ("case", "capture", "kind", "id", "dtype", "truth", "trace", "model", "variant")}
    out.update(result=r, failed="verdict" not in r)
    if out["failed"]:
        out.update(detected=False, located=False, name="fail", weak=False, ok=False)
        return out
    errors = [f for f in r["findings"] if f[1] == "error"]
    own = [f for f in r["findings"] if f[0] == case["id"]]  # a fault of precision may be named as a warning
    detected = r["verdict"] != "equivalent" or bool(errors) or bool(own)
    top = (errors or own or [[None]])[0][0]
    out["detected"] = detected
    truth = case["truth"]
    spots = ([[truth["step"], truth["point"]]] if truth else []) + case["also"]
    out["located"] = r["at"] in spots if r["at"] else any(f[3] in [s[1] for s in spots] for f in own)
    out["weak"] = bool(truth) and not detected and truth["strength"] < weak
    if top is None:
        out["name"] = "none"
    elif top == case["id"]:
        out["name"] = "named"
    elif top in case["alias"]:
        out["name"] = "alias"
    else:
        out["name"] = "unnamed" if top == "unnamed" else "MIS:" + top
    kind = case["kind"]
    if kind == "clean":
        out["ok"] = r["verdict"] == "equivalent" and not errors and r["rc"] == 0
    elif kind == "benign":
        out["ok"] = not errors and r["rc"] == 0
    elif kind == "invented":
        out["ok"] = detected and out["located"] and out["name"] == "unnamed"
    else:
        out["ok"] = detected and out["located"] and (out["name"] in ("named", "alias") or (out["name"] == "unnamed" and (case["accept_unnamed"] or kind == "optional")))
    return out


def table(title, groups):
    print(f"\n{title:44} {'n':>4} {'det':>4} {'loc':>4} {'named':>5} {'alias':>5} {'unnam':>5} {'MIS':>4} {'weak':>4} {'fail':>4}  misnamed as")
    for key in sorted(groups):
        g = groups[key]
        c = collections.Counter(x["name"].split(":")[0] for x in g)
        mis = collections.Counter(x["name"][4:] for x in g if x["name"].startswith("MIS"))
        print(f"{key:44} {len(g):4} {sum(x['detected'] for x in g):4} {sum(x['located'] for x in g):4} {c['named']:5} {c['alias']:5} {c['unnamed']:5} "
              f"{c['MIS']:4} {sum(x['weak'] for x in g):4} {c['fail']:4}  {' '.join(f'{k}:{n}' for k, n in mis.most_common())}")


def group(records, key):
    out = collections.defaultdict(list)
    for r in records:
        out[key(r)].append(r)
    return out


def summary(records):
    """Totals per kind, dtype and capture."""
    out = {}
    for key, g in group(records, lambda r: f"{r['kind']} {r['dtype']} {r['capture']}").items():
        names = collections.Counter(x["name"].split(":")[0] for x in g)
        out[key] = {"traces": len(g), "right": sum(x["ok"] for x in g), "detected": sum(x["detected"] for x in g), "located": sum(x["located"] for x in g),
                    "weak": sum(x["weak"] for x in g), **names}
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out")
    ap.add_argument("--parscope", default="build/parscope")
    ap.add_argument("--only", default="", help="regular expression on 'CASE/CAPTURE'")
    ap.add_argument("--kind", default="", help="clean, benign, invented, listed or optional")
    ap.add_argument("--every", type=int, default=1, help="take each n-th trace")
    ap.add_argument("--jobs", type=int, default=1)
    ap.add_argument("--timeout", type=int, default=120)
    ap.add_argument("--weak", type=float, default=4.0)
    ap.add_argument("--json", help="write all records here")
    ap.add_argument("--bad", action="store_true", help="list every trace that is not right")
    a = ap.parse_args()
    cases = [c for c in json.load(open(a.out + "/cases.json"))["cases"]
             if re.search(a.only, c["case"] + "/" + c["capture"]) and (not a.kind or c["kind"] == a.kind)][::a.every]
    records = []
    with concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
        for n, (c, r) in enumerate(zip(cases, pool.map(lambda c: diagnose(a.parscope, c, a.timeout), cases))):
            records.append(judge(c, r, a.weak))
            if sys.stderr.isatty() or n % 200 == 199:
                print(f"{n + 1}/{len(cases)}", file=sys.stderr, flush=True)
    listed = [r for r in records if r["kind"] in ("listed", "optional")]
    if listed:
        table("fault", group(listed, lambda r: r["id"] + (" (runtime)" if r["kind"] == "optional" else "")))
        table("listed faults, by dtype and capture", group([r for r in listed if r["kind"] == "listed"], lambda r: f"{r['dtype']} {r['capture']}"))
        table("all listed", group([r for r in listed if r["kind"] == "listed"], lambda r: "total"))
    for kind, want in (("invented", "must be unnamed, at the right point"), ("benign", "must be no error"), ("clean", "must be equivalent")):
        g = [r for r in records if r["kind"] == kind]
        if g:
            table(f"{kind}: {want}", group(g, lambda r: r["id"] if kind != "clean" else f"clean {r['dtype']} {r['capture']}"))
            print(f"{kind}: {sum(r['ok'] for r in g)} of {len(g)} right")
    bad = [r for r in records if not r["ok"] and not r["weak"]]
    if a.bad:
        print()
        for r in bad:
            t = r["truth"]
            print(f"{r['case']}/{r['capture']}: {r['name']}; truth {[t['step'], t['point'], round(t['strength'], 1)] if t else None}, "
                  f"said {r['result'].get('at')} {r['result'].get('verdict', r['result'].get('why'))} {r['result'].get('findings', [])[:3]}")
    print(f"\n{len(records) - len(bad)} of {len(records)} traces right (or too weak to ask for)")
    if a.json:
        json.dump({"summary": summary(records), "records": records}, open(a.json, "w"), indent=0)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
