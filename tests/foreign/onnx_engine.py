"""An engine that is not PyTorch: the checkpoint as an ONNX graph of standard operators, run by ONNX Runtime, every value an output.

RMSNormalization, RotaryEmbedding and Attention are ONNX Runtime's own kernels; nothing of transformers or torch takes part.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file, save_file

Array = Any


@dataclass(frozen=True)
class Mistakes:
    """What can go wrong when somebody writes such a graph."""

    interleaved: bool = False  # RotaryEmbedding's attribute
    causal_flag: bool = False  # Attention's is_causal for a mask
    biases: bool = True
    epsilon: float | None = None
    scale: float | None = None
    tiled_heads: bool = False  # Tile for a repeat of every head
    swapped_mlp: bool = False
    theta: float | None = None


class Graph:
    """Nodes in order; each `node` gives the name of its output, and named ones are points of the trace."""

    def __init__(self, config: dict[str, Any], weights: dict[str, Array], mistakes: Mistakes) -> None:
        self.config, self.weights, self.mistakes = config, weights, mistakes
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.points: dict[str, str] = {}
        self.heads, self.kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        self.size = config["hidden_size"] // self.heads

    def node(self, op: str, *inputs: str, point: str | None = None, outputs: int = 1, **attributes: Any) -> str:
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        if point:
            self.points[point] = names[0]
        return names[0]

    def constant(self, name: str, value: Array) -> str:
        self.constants.setdefault(name, numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def linear(self, x: str, path: str, weight: str | None = None) -> str:
        matrix = self.constant(f"{weight or path}.weight.T", self.weights[f"{weight or path}.weight"].T)
        bias = self.weights.get(f"{path}.bias") if self.mistakes.biases else None
        if bias is None:
            return self.node("MatMul", x, matrix, point=path)
        return self.node("Add", self.node("MatMul", x, matrix), self.constant(f"{path}.bias", bias), point=path)

    def norm(self, x: str, path: str) -> str:
        epsilon = self.mistakes.epsilon or self.config["rms_norm_eps"]
        gain = self.constant(f"{path}.weight", self.weights[f"{path}.weight"])
        return self.node("RMSNormalization", x, gain, point=path, axis=-1, epsilon=epsilon)

    def split_heads(self, x: str, heads: int) -> str:
        shape = self.constant(f"shape{heads}", np.array([0, 0, heads, self.size], np.int64))
        return self.node("Transpose", self.node("Reshape", x, shape), perm=[0, 2, 1, 3])

    def rotate(self, x: str, point: str) -> str:
        theta = self.mistakes.theta or self.config["rope_parameters"]["rope_theta"]
        angles = np.arange(self.config["max_position_embeddings"])[:, None] * theta ** (-np.arange(0, self.size, 2) / self.size)
        cos = self.constant("cos", np.cos(angles).astype(np.float32))
        sin = self.constant("sin", np.sin(angles).astype(np.float32))
        return self.node("RotaryEmbedding", x, cos, sin, "positions", point=point, interleaved=int(self.mistakes.interleaved))

    def attention(self, x: str, layer: int) -> str:
        path = f"model.layers.{layer}.self_attn"
        query = self.rotate(self.split_heads(self.linear(x, f"{path}.q_proj"), self.heads), f"{path}:q_rope")
        key = self.rotate(self.split_heads(self.linear(x, f"{path}.k_proj"), self.kv_heads), f"{path}:k_rope")
        value = self.split_heads(self.linear(x, f"{path}.v_proj"), self.kv_heads)
        key = self.node("Concat", f"past_k.{layer}", key, point=f"{path}:k_cache", axis=2)
        value = self.node("Concat", f"past_v.{layer}", value, point=f"{path}:v_cache", axis=2)
        if self.mistakes.tiled_heads:
            times = self.constant("times", np.array([1, self.heads // self.kv_heads, 1, 1], np.int64))
            key, value = self.node("Tile", key, times), self.node("Tile", value, times)
        given = (query, key, value) if self.mistakes.causal_flag else (query, key, value, "mask")
        result = self.node(
            "Attention",
            *given,
            outputs=4,
            is_causal=int(self.mistakes.causal_flag),
            scale=self.mistakes.scale or self.size**-0.5,
            qk_matmul_output_mode=0,
        )
        self.points[f"{path}:scores"] = result[:-1] + "3"
        flat = self.constant("flat", np.array([0, 0, self.heads * self.size], np.int64))
        context = self.node("Reshape", self.node("Transpose", result, perm=[0, 2, 1, 3]), flat, point=f"{path}:context")
        return self.linear(context, f"{path}.o_proj")

    def mlp(self, x: str, layer: int) -> str:
        path = f"model.layers.{layer}.mlp"
        names = ["gate_proj", "up_proj"]
        weights = names[::-1] if self.mistakes.swapped_mlp else names
        gate, up = (self.linear(x, f"{path}.{n}", f"{path}.{w}") for n, w in zip(names, weights))
        act = self.node("Mul", self.node("Mul", gate, self.node("Sigmoid", gate)), up, point=f"{path}:act")
        return self.linear(act, f"{path}.down_proj")

    def build(self) -> onnx.ModelProto:
        x = self.node("Gather", self.constant("embed", self.weights["model.embed_tokens.weight"]), "ids", point="model.embed_tokens")
        for layer in range(self.config["num_hidden_layers"]):
            path = f"model.layers.{layer}"
            x = self.node("Add", x, self.attention(self.norm(x, f"{path}.input_layernorm"), layer), point=f"{path}:attn_residual")
            x = self.node("Add", x, self.mlp(self.norm(x, f"{path}.post_attention_layernorm"), layer), point=path)
        self.linear(self.norm(x, "model.norm"), "lm_head")
        inputs = [("ids", TensorProto.INT64, ["B", "S"]), ("positions", TensorProto.INT64, ["B", "S"])]
        if not self.mistakes.causal_flag:
            inputs.append(("mask", TensorProto.BOOL, ["B", 1, "S", "C"]))
        for layer in range(self.config["num_hidden_layers"]):
            inputs += [(f"past_{what}.{layer}", TensorProto.FLOAT, ["B", self.kv_heads, "P", self.size]) for what in "kv"]
        graph = helper.make_graph(
            self.nodes,
            "qwen2",
            [helper.make_tensor_value_info(*i) for i in inputs],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self.points.values()],
            list(self.constants.values()),
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def visible(mask: Array, tokens: int) -> Array:
    """Causal, aligned at the end, without padding; a query that sees nothing sees itself."""
    columns = mask.shape[1]
    past = columns - tokens
    causal = np.arange(columns)[None, :] <= past + np.arange(tokens)[:, None]
    keep = causal[None] & mask[:, None, :].astype(bool)
    keep |= (~keep.any(-1, keepdims=True)) & (np.arange(columns) == (past + np.arange(tokens))[:, None])
    return keep[:, None]


def record(model_dir: Path, out: Path, steps: list[dict[str, Array]], mistakes: Mistakes = Mistakes()) -> Path:
    """Runs the graph step by step with its own cache and writes the trace: plain numpy arrays and a manifest."""
    config = json.loads((model_dir / "config.json").read_text())
    graph = Graph(config, load_file(model_dir / "model.safetensors"), mistakes)
    session = onnxruntime.InferenceSession(graph.build().SerializeToString(), providers=["CPUExecutionProvider"])
    layers = range(config["num_hidden_layers"])
    empty = np.zeros((len(steps[0]["input_ids"]), graph.kv_heads, 0, graph.size), np.float32)
    past = {f"past_{what}.{layer}": empty for layer in layers for what in "kv"}
    out.mkdir()
    listed = []
    for number, step in enumerate(steps):
        given = {"ids": step["input_ids"], "positions": step["position_ids"], **past}
        keep = visible(step["attention_mask"], step["input_ids"].shape[1])
        if not mistakes.causal_flag:
            given["mask"] = keep
        values = dict(zip(graph.points, session.run(list(graph.points.values()), given)))
        for layer in layers:
            for what in "kv":
                past[f"past_{what}.{layer}"] = values[f"model.layers.{layer}.self_attn:{what}_cache"]
        file = f"step-{number:05}.rank-00000.safetensors"
        save_file({**step, **{name: np.ascontiguousarray(value) for name, value in values.items()}}, out / file)
        listed.append({"step": number, "rank": 0, "file": file})
    manifest = {"format": "parscope-trace/1", "producer": f"ONNX Runtime {onnxruntime.__version__}", "model": config}
    (out / "trace.json").write_text(json.dumps({**manifest, "dtype": "float32", "device": "cpu", "steps": listed}))
    return out
