"""Numbers of each dtype, and the files of checkpoints and traces (trace.md)."""
import json
import os
import struct

import numpy as np


def round_bf16(x):
    """Nearest bf16 (ties to even), kept as float32."""
    x = np.ascontiguousarray(x, np.float32)
    u = x.view(np.uint32)
    out = ((u + 0x7FFF + ((u >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32).reshape(x.shape)
    return np.where(np.isfinite(x), out, x)


class Num:
    """What one dtype does after each op. 16-bit values are held in float32, f64 keeps everything in float64."""

    def __init__(self, name):
        self.name = name
        self.ct = np.float64 if name == "f64" else np.float32  # also the type of the fp32 islands
        self.unit = {"f64": 2.0**-53, "f32": 2.0**-24, "bf16": 2.0**-8, "f16": 2.0**-11}[name]
        self.lowest = {"f64": -1.7976931348623157e308, "f32": -3.4028235e38, "bf16": -3.3895314e38, "f16": -65504.0}[name]
        self.tag = {"f64": "F64", "f32": "F32", "bf16": "BF16", "f16": "F16"}[name]
        self.torch = {"f64": "float64", "f32": "float32", "bf16": "bfloat16", "f16": "float16"}[name]

    def r(self, x):
        if self.name == "bf16":
            return round_bf16(x)
        if self.name == "f16":
            with np.errstate(over="ignore"):
                return np.asarray(x, np.float32).astype(np.float16).astype(np.float32)
        return np.asarray(x, self.ct)


def write_safetensors(path, tensors):
    """tensors: name -> (array, tag)."""
    header, blobs, at = {}, [], 0
    for name, (a, tag) in tensors.items():
        if tag == "BF16":
            raw = (round_bf16(a).view(np.uint32) >> 16).astype("<u2").tobytes()
        else:
            kind = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "BOOL": "?"}[tag]
            with np.errstate(over="ignore"):
                raw = np.ascontiguousarray(a).astype(kind).tobytes()
        header[name] = {"dtype": tag, "shape": list(np.shape(a)), "data_offsets": [at, at + len(raw)]}
        at += len(raw)
        blobs.append(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def read_safetensors(path):
    data = open(path, "rb").read()
    n = struct.unpack("<Q", data[:8])[0]
    header, out = json.loads(data[8:8 + n]), {}
    for name, h in header.items():
        if name == "__metadata__":
            continue
        lo, hi = h["data_offsets"]
        raw = data[8 + n + lo:8 + n + hi]
        if h["dtype"] == "BF16":
            a = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            a = np.frombuffer(raw, {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "BOOL": "?", "U8": "u1"}[h["dtype"]])
        out[name] = a.reshape(h["shape"])
    return out


def read_checkpoint(folder):
    """Every tensor of a checkpoint folder, one file or sharded."""
    index = os.path.join(folder, "model.safetensors.index.json")
    if not os.path.exists(index):
        return read_safetensors(os.path.join(folder, "model.safetensors"))
    out = {}
    for f in sorted(set(json.load(open(index))["weight_map"].values())):
        out.update(read_safetensors(os.path.join(folder, f)))
    return out


def load_trace(folder):
    """(manifest, [ {name: array} per step ])."""
    t = json.load(open(os.path.join(folder, "trace.json")))
    return t, [read_safetensors(os.path.join(folder, s["file"])) for s in t["steps"]]


def steps_of(manifest, files):
    out = []
    for s, f in zip(manifest["steps"], files):
        st = {k: v for k, v in s.items() if k in ("op", "beam_idx")}
        st.update({k: f[k] for k in ("input_ids", "attention_mask", "position_ids") if k in f})
        out.append(st)
    return out


def write_trace(folder, config, num, steps, results, wanted, producer="heldout numpy"):
    os.makedirs(folder, exist_ok=True)
    manifest = {"format": "parscope-trace/1", "producer": producer, "model": config, "dtype": num.torch, "device": "cpu",
                "world_size": 1, "tensor_parallel": 1, "steps": []}
    for n, (st, (points, tags)) in enumerate(zip(steps, results)):
        name = f"step-{n:05d}.rank-00000.safetensors"
        entry = {"step": n, "rank": 0, "file": name, "op": st.get("op", "forward")}
        tensors = {k: (np.asarray(st[k]), "I64") for k in ("input_ids", "attention_mask", "position_ids") if st.get(k) is not None}
        if entry["op"] == "reorder_cache":
            entry["beam_idx"] = [int(x) for x in st["beam_idx"]]
            tensors = {}
        tensors.update({k: (v, tags[k]) for k, v in points.items() if wanted(k)})
        write_safetensors(os.path.join(folder, name), tensors)
        manifest["steps"].append(entry)
    with open(os.path.join(folder, "trace.json"), "w") as f:
        json.dump(manifest, f)
