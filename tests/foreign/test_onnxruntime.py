"""ONNX Runtime is equivalent to the reference; a graph that was written with a mistake is told which."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from engines import diagnose, program
from onnx_engine import Mistakes, record


def steps(ragged: bool) -> list[dict[str, Any]]:
    return [
        {"input_ids": s.ids.numpy(), "attention_mask": s.mask.numpy(), "position_ids": s.positions.contiguous().numpy()}
        for s in program(padding=3 if ragged else 0)
    ]


def test_as_written(models: Any, tmp_path: Path) -> None:
    _, folder = models("qwen2", "float32")
    report = diagnose(record(folder, tmp_path / "trace", steps(True)), folder)
    assert report["verdict"] == "equivalent", report["findings"]
    assert len([p for p in report["points"] if p["point"].endswith(":scores") and p["status"] == "ok"]) == 8


@pytest.mark.parametrize(
    ("mistakes", "cause", "point", "ragged"),
    [
        (Mistakes(interleaved=True), "rope-interleaved-vs-half", "model.layers.0.self_attn:q_rope", True),
        (Mistakes(tiled_heads=True), "attention-gqa-repeat-vs-interleave", "model.layers.0.self_attn:scores", True),
        (Mistakes(biases=False), "weights-qkv-bias-dropped", "model.layers.0.self_attn.q_proj", True),
        (Mistakes(epsilon=1e-3), "norm-eps-wrong", "model.layers.0.input_layernorm", True),
        (Mistakes(scale=1 / 8), "attention-scale-wrong", "model.layers.0.self_attn:scores", True),
        (Mistakes(swapped_mlp=True), "weights-gate-up-swapped", "model.layers.0.mlp.gate_proj", True),
        (Mistakes(theta=10000.0), "rope-theta-default", "model.layers.0.self_attn:q_rope", True),
        (Mistakes(causal_flag=True), "mask-causal-topleft-alignment", "model.layers.0.self_attn:context", False),
    ],
    ids=lambda value: value if isinstance(value, str) and "-" in value else "",
)
def test_mistakes(models: Any, tmp_path: Path, mistakes: Mistakes, cause: str, point: str, ragged: bool) -> None:
    _, folder = models("qwen2", "float32")
    report = diagnose(record(folder, tmp_path / "trace", steps(ragged), mistakes), folder)
    errors = [f for f in report["findings"] if f["severity"] == "error"]
    assert errors and errors[0]["id"] == cause, json.dumps(errors, indent=1)[:4000]
    assert report["first_divergence"]["point"] == point
