"""What transformers' models differ in: sliding windows, tied embeddings, norms of queries and keys, RoPE scaling; decode steps and gradients."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import parscope_capture
import pytest
import torch
import transformers
from engines import capture, diagnose, program
from safetensors.torch import load_file

_BASE = dict(
    vocab_size=97, hidden_size=48, intermediate_size=72, num_hidden_layers=2, max_position_embeddings=160, rms_norm_eps=1e-6
)
_SLIDING = dict(use_sliding_window=True, sliding_window=4, max_window_layers=1)


def _rope(kind: str = "default", **more: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 5000.0, **more}}


def _qwen2(**more: Any) -> Any:
    sizes = dict(num_attention_heads=6, num_key_value_heads=2)
    return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**_BASE, **sizes, **_rope(), **more))


def _qwen3(**more: Any) -> Any:
    sizes = dict(num_attention_heads=6, num_key_value_heads=3, head_dim=10)
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**_BASE, **sizes, **_rope(), **more))


def _llama(keys: int, **more: Any) -> Any:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**_BASE, num_attention_heads=4, num_key_value_heads=keys, **more))


MODELS = {
    "qwen2-sliding": lambda: _qwen2(**_SLIDING),
    "qwen2-tied": lambda: _qwen2(tie_word_embeddings=True),
    "qwen3-tied": lambda: _qwen3(tie_word_embeddings=True),
    "qwen3-sliding": lambda: _qwen3(**_SLIDING),
    "llama3-scaling": lambda: _llama(
        2, **_rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)
    ),
    "llama-yarn": lambda: _llama(2, **_rope("yarn", factor=4.0, original_max_position_embeddings=40)),
    "llama-linear-biases": lambda: _llama(4, attention_bias=True, mlp_bias=True, **_rope("linear", factor=2.0)),
}


def made(name: str, folder: Path) -> Any:
    torch.manual_seed(3)
    model = MODELS[name]().eval()
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            if path.endswith("norm.weight"):
                parameter.copy_(1 + 0.2 * torch.randn_like(parameter))
            else:
                parameter.normal_(0, 0.15)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", MODELS)
def test_decode_steps(tmp_path: Path, name: str, attention: str) -> None:
    model = made(name, tmp_path / "model")
    model.set_attn_implementation(attention)
    report = diagnose(capture(model, tmp_path / "out"), tmp_path / "model")
    assert report["verdict"] == "equivalent" and not report["findings"], report["findings"]


@pytest.mark.parametrize("name", MODELS)
def test_gradients(tmp_path: Path, name: str) -> None:
    model = made(name, tmp_path / "model")
    ids = program(padding=0)[0].ids
    with parscope_capture.record(model, tmp_path / "out", gradients=True):
        model(ids, labels=ids).loss.backward()
    report = diagnose(tmp_path / "out", tmp_path / "model")
    assert report["verdict"] == "equivalent" and not report["findings"], report["findings"]
    judged = {p["point"] for p in report["points"] if p["point"].startswith("grad/")}
    assert judged == {f"grad/{path}" for path, _ in model.named_parameters()}


def test_a_sliding_cache_that_forgets_counts_all_tokens(tmp_path: Path) -> None:
    """transformers keeps window - 1 keys; the trace has all of them, and no scores of those that nobody computed."""
    model = made("qwen2-sliding", tmp_path / "model")
    model.set_attn_implementation("eager")
    out = capture(model, tmp_path / "out")
    first, second = (load_file(out / f"step-0000{n}.rank-00000.safetensors") for n in (0, 1))
    full, sliding = "model.layers.0.self_attn:", "model.layers.1.self_attn:"
    assert second[sliding + "k_cache"].shape == second[full + "k_cache"].shape == (2, 2, 10, 8)
    assert torch.equal(second[sliding + "k_cache"][:, :, :7], first[sliding + "k_cache"])
    assert second["model:mask_sliding"].shape == second["model:mask"].shape
    assert full + "scores" in second and sliding + "scores" not in second


def test_a_window_that_is_one_too_wide_is_found(tmp_path: Path) -> None:
    model = made("qwen2-sliding", tmp_path / "model")
    model.set_attn_implementation("eager")
    modeling = sys.modules[type(model).__module__]
    right = modeling.create_sliding_window_causal_mask

    def wide(config: Any, *args: Any, **rest: Any) -> Any:
        config.sliding_window += 1
        try:
            return right(config, *args, **rest)
        finally:
            config.sliding_window -= 1

    modeling.create_sliding_window_causal_mask = wide
    try:
        capture(model, tmp_path / "out", steps=[0])
    finally:
        modeling.create_sliding_window_causal_mask = right
    report = diagnose(tmp_path / "out", tmp_path / "model")
    assert report["first_divergence"]["point"] == "model:mask_sliding", report["first_divergence"]
