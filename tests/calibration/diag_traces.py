"""Scores `parscope diagnose` on the fault test of lab/diag: 22 faults x 5 inputs, and 5 clean runs.

usage: diag_traces.py LAB_DIAG_DIR PARSCOPE [--candidate kern|bf16] [--rows FILE]

The lab's toy Llama is written as a checkpoint, every run of its bfloat16 candidate ("kern") as a
trace with one point per op of the lab's graph, and `parscope diagnose` reads both. The counts are
those of the lab's diag.py: a fault is detected when a point diverges that does not diverge on the
clean run of the same input, and located when the first divergence is the faulted op's own output.
"propagated" points are inherited, so they count for nothing here.
Exits 1 on a false alarm or when a point before the faulted one diverges.
"""
import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import save_file

LAYER_POINTS = {
    "n1": ".input_layernorm", "q": ".self_attn.q_proj", "k": ".self_attn.k_proj", "v": ".self_attn.v_proj",
    "qr": ".self_attn:q_rope", "kr": ".self_attn:k_rope", "att": ".self_attn:context", "o": ".self_attn.o_proj",
    "r1": ":attn_residual", "n2": ".post_attention_layernorm", "g": ".mlp.gate_proj", "u": ".mlp.up_proj",
    "a": ".mlp:act", "d": ".mlp.down_proj", "r2": "",
}
LAYER_WEIGHTS = {
    "n1": "input_layernorm", "n2": "post_attention_layernorm", "q": "self_attn.q_proj", "k": "self_attn.k_proj",
    "v": "self_attn.v_proj", "o": "self_attn.o_proj", "g": "mlp.gate_proj", "u": "mlp.up_proj", "d": "mlp.down_proj",
}
TOP = {"embed": "model.embed_tokens", "norm": "model.norm", "logits": "lm_head"}
TOP_WEIGHTS = {"emb": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}
WRONG = {"diverged", "nonfinite", "shape", "missing"}  # "propagated" and "healed" points are not wrong themselves


def point(op):
    """The name in spec/trace.md of what the lab calls op ("L3.qr")."""
    layer, _, short = op.partition(".")
    return TOP[op] if op in TOP else f"model.layers.{layer[1:]}{LAYER_POINTS[short]}"


def config(lab):
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
        "vocab_size": lab.V, "hidden_size": lab.D, "intermediate_size": lab.F, "num_hidden_layers": lab.L,
        "num_attention_heads": lab.H, "num_key_value_heads": lab.KV, "head_dim": lab.HD, "hidden_act": "silu",
        "max_position_embeddings": lab.T, "rms_norm_eps": lab.EPS, "rope_theta": 10000.0, "rope_scaling": None,
        "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": False,
    }


def write_checkpoint(lab, weights, folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config(lab), indent=1))
    tensors = {}
    for key, value in weights.items():
        layer, _, short = key.partition(".")
        name = TOP_WEIGHTS[key] if key in TOP_WEIGHTS else f"model.layers.{layer}.{LAYER_WEIGHTS[short]}"
        stored = value.to(torch.bfloat16)
        assert torch.equal(stored.float(), value), f"{key} is not exact in bfloat16"
        tensors[name + ".weight"] = stored.contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def write_trace(lab, ids, values, folder):
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {"input_ids": ids.contiguous()}
    for op, value in values.items():
        if op.endswith((".qr", ".kr")):  # the lab keeps [B,T,heads*D]; the contract's rotated points are [R,heads,S,D]
            value = value.view(lab.B, lab.T, -1, lab.HD).transpose(1, 2)
        assert value.dtype == torch.bfloat16, op
        tensors[point(op)] = value.contiguous()
    name = "step-00000.rank-00000.safetensors"
    save_file(tensors, folder / name)
    manifest = {
        "format": "parscope-trace/1", "producer": "lab/diag", "model": config(lab), "dtype": "bfloat16",
        "device": "cpu", "world_size": 1, "tensor_parallel": 1, "steps": [{"step": 0, "rank": 0, "file": name}],
    }
    (folder / "trace.json").write_text(json.dumps(manifest, indent=1))


def diagnose(binary, trace, model):
    done = subprocess.run([binary, "diagnose", trace, "--model", model, "--json"], capture_output=True, text=True)
    try:
        return json.loads(done.stdout)
    except json.JSONDecodeError:
        sys.exit(f"parscope ended with {done.returncode} on {trace}: {done.stderr.strip()}")


def main():
    ask = argparse.ArgumentParser()
    ask.add_argument("lab", type=pathlib.Path)
    ask.add_argument("parscope", type=pathlib.Path)
    ask.add_argument("--candidate", choices=["kern", "bf16"], default="kern")
    ask.add_argument("--rows", type=pathlib.Path, help="write the counts and one line per run as JSON")
    args = ask.parse_args()
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(args.lab))
    import model as lab

    work = pathlib.Path(tempfile.mkdtemp(prefix="parscope-diag-"))
    weights = lab.make_weights()
    ops, faults = lab.graph(weights), lab.faults(weights)
    if args.candidate == "bf16":
        faults = {n: f for n, f in faults.items() if not {"ft", "kind"} & f[1].keys()}  # 4 exist in kern mode alone
    order = [point(name) for name, _, _ in ops]
    write_checkpoint(lab, weights, work / "model")
    runs, tally = [], dict(clean_points=0, clean_points_red=0, clean_runs_red=0, faults=0, detected=0, exact=0, early=0)
    for seed in range(5):  # the five inputs of diag.py
        ids = torch.randint(1, lab.V, (lab.B, lab.T), generator=torch.Generator().manual_seed(100 + seed))
        ids[:, 0] = 0
        clean = set()
        for name, fault in [("clean", None), *faults.items()]:
            trace = work / f"{seed}-{name}"
            write_trace(lab, ids, lab.run(ops, ids, args.candidate, fault), trace)
            report = diagnose(args.parscope, trace, work / "model")
            points = report["points"]
            assert {p["point"] for p in points} == set(order), "a point of the trace was not judged"
            red = [p["point"] for p in points if p["status"] in WRONG]
            first = (report.get("first_divergence") or {}).get("point")
            ratios = {p["point"]: p["ratio"] for p in points}
            shutil.rmtree(trace)
            row = dict(seed=seed, fault=name, first=first, red=len(red))
            if fault is None:
                clean = set(red)
                tally["clean_points"] += len(order)
                tally["clean_points_red"] += len(red)
                tally["clean_runs_red"] += bool(red)
                row["worst_ratio"] = max(r for r in ratios.values() if isinstance(r, float))
            else:
                target = point(fault[0])
                row |= dict(target=target, ratio=ratios[target], detected=bool(set(red) - clean), exact=first == target)
                tally["faults"] += 1
                tally["detected"] += row["detected"]
                tally["exact"] += row["exact"]
                tally["early"] += first in order and order.index(first) < order.index(target)
            runs.append(row)
            print(json.dumps(row), flush=True)
    if args.rows:
        args.rows.write_text("".join(json.dumps(row) + "\n" for row in [tally, *runs]))
    shutil.rmtree(work)
    print(json.dumps(tally))
    return 1 if tally["clean_points_red"] or tally["early"] else 0


if __name__ == "__main__":
    sys.exit(main())
