"""Holds parscale_np.py against the float64 goldens of other people's implementations: validate.py GOLDEN_DIR

GOLDEN_DIR holds parscale/ and tensor-parallel/. The latter bring Qwen3's norms of q and k and Llama's biases; they were computed
with pinned fp32 tables of RoPE, so those are used.
"""
import json
import os
import sys

import numpy as np

from files_np import load_trace, read_checkpoint, read_safetensors, steps_of
from parscale_np import Model


def real_cells(name, a, am, past, T, P):
    """A mask of the cells that belong to real tokens; rows of pad tokens have no agreed value."""
    if am is None:
        return np.ones(a.shape, bool)
    q = am[:, past:] == 1
    B, S = q.shape
    if a.shape[0] == P * B:
        q = np.concatenate([q] * P)
    elif a.shape[0] != B:
        return np.ones(a.shape, bool)
    rows = a.shape[0]
    ok = np.ones(a.shape, bool)
    tail = name.split(":")[-1]
    if tail in ("scores", "probs", "mask", "q_rope", "k_rope") and a.ndim == 4:
        ok &= q[:, None, :, None]
    elif tail in ("k_cache", "v_cache"):
        keys = (am if rows == B else np.concatenate([am] * P)) == 1
        extra = a.shape[2] - keys.shape[1]
        if extra >= 0:
            keys = np.concatenate([np.ones((rows, extra), bool), keys], 1)
            ok &= keys[:, None, :, None]
    elif a.ndim >= 3 and a.shape[1] == S:
        ok &= q.reshape(rows, S, *[1] * (a.ndim - 2))
    if tail in ("scores", "probs", "mask") and a.ndim == 4:
        keys = (am if rows == B else np.concatenate([am] * P)) == 1
        extra = a.shape[3] - keys.shape[1]
        if extra >= 0:
            keys = np.concatenate([np.ones((rows, extra), bool), keys], 1)
            ok &= keys[:, None, None, :]
    return ok


def check_case(folder, expected):
    config = json.load(open(os.path.join(folder, "config.json")))
    manifest, files = load_trace(os.path.join(folder, expected))
    keep = [i for i, s in enumerate(manifest["steps"]) if s.get("op", "forward") in ("forward", "reorder_cache")]
    manifest["steps"], files = [manifest["steps"][i] for i in keep], [files[i] for i in keep]
    steps = steps_of(manifest, files)
    m = Model(config, read_checkpoint(folder), "f64")
    worst, at, count, past, pads = 0.0, "", 0, 0, 0
    for st, (points, _), want in zip(steps, m.run(steps), files):
        if st.get("op") == "reorder_cache":
            continue
        am = want.get("attention_mask")
        for name, a in points.items():
            if name not in want:
                continue
            b = want[name]
            if a.shape != b.shape:
                b = np.broadcast_to(b, a.shape) if b.ndim == a.ndim and b.shape[0] == 1 else b
            if a.shape != b.shape:
                return 1e9, f"{name} {a.shape} {b.shape}", count, len(steps), pads
            ok = real_cells(name, a, am, past, m.c.T, m.c.P)
            pads += int((~ok).sum() > 0)
            count += 1
            x, y = a[ok].astype(np.float64), b[ok].astype(np.float64)
            err = np.abs(x - y).max() / max(np.abs(y).max(), 1e-30) if x.size else 0
            if not err <= worst:
                worst, at = err, name
        past += want["input_ids"].shape[1]
    return worst, at, count, len(steps), pads


def check_parallel(folder):
    """A tensor-parallel case's unsharded float64 values."""
    case = json.load(open(os.path.join(folder, "case.json")))
    c, acts = case["cfg"], read_safetensors(os.path.join(folder, "acts.safetensors"))
    config = {"model_type": c["family"], "vocab_size": c["vocab"], "hidden_size": c["hidden"], "intermediate_size": c["inter"], "num_hidden_layers": c["layers"],
              "num_attention_heads": c["heads"], "num_key_value_heads": c["kv"], "head_dim": c["head_dim"], "rms_norm_eps": c["eps"], "rope_theta": c["theta"],
              "tie_word_embeddings": c["tie"]}
    ids, pos, valid = (np.array(case[k]) for k in ("input_ids", "position_ids", "valid"))
    m = Model(config, read_safetensors(os.path.join(folder, "weights.safetensors")), "f64")
    tables = [acts["rope/model.rotary_emb:" + t].astype(np.float64) for t in ("cos", "sin")]
    steps, at = [], 0
    for n in case["steps"]:
        steps.append({"input_ids": ids[:, at:at + n], "position_ids": pos[:, at:at + n], "attention_mask": valid[:, :at + n]})
        at += n
    m.rope_tables = lambda p, f, k: tuple(t[:, m.past:m.past + p.shape[1]] for t in tables)
    worst, where, count, past, pads = 0.0, "", 0, 0, 0
    for n, (st, (points, _)) in enumerate(zip(steps, m.run(steps))):
        for name, a in points.items():
            b = acts.get(f"f64/step{n}/{name}")
            if b is None:
                continue
            ok = real_cells(name, a, st["attention_mask"], past, 0, 1)
            pads += int((~ok).sum() > 0)
            count += 1
            err = np.abs(a[ok] - b[ok]).max() / np.abs(b[ok]).max()
            if not err <= worst:
                worst, where = err, f"step {n} {name}"
        past += st["input_ids"].shape[1]
    return worst, where, count, len(steps), pads


def main(root):
    bad = 0
    print(f"{'case':36} {'worst rel':>10}  points steps padded  at")
    for kind, check in (("parscale", lambda f: check_case(f, "expected-f64")), ("tensor-parallel", check_parallel)):
        for case in sorted(x for x in os.listdir(os.path.join(root, kind)) if "." not in x):
            worst, at, n, steps, pads = check(os.path.join(root, kind, case))
            bad += not worst < 1e-12 or n == 0
            print(f"{case:36} {worst:10.1e}  {n:6} {steps:5} {pads:6}  {at}")
    print(f"{bad} cases above 1e-12")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
