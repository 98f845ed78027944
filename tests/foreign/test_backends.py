"""Which attention kernel ran, whatever was asked for; and runs that compute in another type than their weights have."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import parscope_capture
import pytest
import torch
from engines import capture, diagnose, parscope, program, run
from safetensors.torch import load_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


def events(trace: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((trace / "trace.json").read_text())["backends"]
    return found


@pytest.mark.parametrize("kernel", ["math", "flash_attention"])
def test_the_kernel_of_sdpa_is_the_one_that_the_profiler_saw(models: Any, tmp_path: Path, kernel: str) -> None:
    model, _ = models("qwen2", "float32")
    model.set_attn_implementation("sdpa")
    with sdpa_kernel(getattr(SDPBackend, kernel.upper())), torch.profiler.profile() as profile:
        with parscope_capture.record(model, tmp_path / "out"):
            run(model, program()[:1])
    ran = {event.key for event in profile.key_averages()}
    assert ("aten::_scaled_dot_product_flash_attention_for_cpu" in ran) == (kernel == "flash_attention")
    assert ("aten::_scaled_dot_product_attention_math" in ran) == (kernel == "math")
    (event,) = events(tmp_path / "out")
    assert (event["requested"], event["executed"], event["kernel"]) == ("sdpa", "sdpa", kernel)


def test_flex_was_asked_and_sdpa_ran(models: Any, tmp_path: Path) -> None:
    model, folder = models("llama", "float32")
    model.set_attn_implementation("flex_attention")

    def instead(module: Any, q: Any, k: Any, v: Any, mask: Any, **rest: Any) -> Any:
        return sdpa_attention_forward(module, q, k, v, None, scaling=module.scaling)

    old = ALL_ATTENTION_FUNCTIONS["flex_attention"]
    torch.compiler.set_stance("force_eager")
    ALL_ATTENTION_FUNCTIONS["flex_attention"] = instead
    try:
        with torch.no_grad(), parscope_capture.record(model, tmp_path / "out"):
            model(program(padding=0)[0].ids)
    finally:
        torch.compiler.set_stance("default")
        ALL_ATTENTION_FUNCTIONS["flex_attention"] = old
    (event,) = events(tmp_path / "out")
    assert (event["requested"], event["executed"]) == ("flex_attention", "sdpa")
    report = diagnose(tmp_path / "out", folder)
    assert [f["id"] for f in report["findings"]] == ["MK050"], report["findings"]
    assert "flex_attention" in report["findings"][0]["message"]


def test_eager_was_asked_and_sdpa_ran_in_one_layer(models: Any, tmp_path: Path) -> None:
    model, folder = models("qwen2", "float32")
    model.set_attn_implementation("eager")
    modeling = sys.modules[type(model).__module__]
    eager = modeling.eager_attention_forward

    def sometimes(module: Any, *args: Any, **rest: Any) -> Any:
        return (sdpa_attention_forward if module.layer_idx == 1 else eager)(module, *args, **rest)

    modeling.eager_attention_forward = sometimes
    try:
        capture(model, tmp_path / "out", steps=[0])
    finally:
        modeling.eager_attention_forward = eager
    assert {(e["layer"], e["executed"]) for e in events(tmp_path / "out")} == {(0, "eager"), (1, "sdpa")}
    report = diagnose(tmp_path / "out", folder)
    assert "MK050" in {f["id"] for f in report["findings"]}
    values = load_file(tmp_path / "out" / "step-00000.rank-00000.safetensors")
    assert "model.layers.0.self_attn:probs" in values and "model.layers.1.self_attn:probs" not in values


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_autocast(models: Any, tmp_path: Path, dtype: torch.dtype, attention: str, family: str) -> None:
    """Weights in float32, products in 16 bits: every value is judged by the type that it came in."""
    model, folder = models(family, "float32")
    model.set_attn_implementation(attention)
    with torch.autocast("cpu", dtype):
        capture(model, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "trace.json").read_text())
    assert (manifest["dtype"], manifest["autocast"]) == ("float32", str(dtype).removeprefix("torch."))
    values = load_file(tmp_path / "out" / "step-00000.rank-00000.safetensors")
    assert values["model.layers.0.self_attn.q_proj"].dtype == dtype
    report = diagnose(tmp_path / "out", folder)
    assert report["verdict"] == "equivalent", json.dumps(report["findings"], indent=1)[:3000]


def test_autocast_against_float32(models: Any, tmp_path: Path) -> None:
    """Two runs side by side: what autocast rounds is no difference, and without being told of it, it is one."""
    model, _ = models("qwen2", "float32")
    model.set_attn_implementation("eager")
    capture(model, tmp_path / "wide", points="layers")
    with torch.autocast("cpu", torch.bfloat16):
        capture(model, tmp_path / "cast", points="layers")
    assert parscope("diff", tmp_path / "cast", tmp_path / "wide")[0] == 0
    manifest = tmp_path / "cast" / "trace.json"
    manifest.write_text(manifest.read_text().replace('"autocast": "bfloat16"', '"autocast": null'))
    assert parscope("diff", tmp_path / "cast", tmp_path / "wide")[0] == 1


def test_autocast_with_a_mistake(models: Any, tmp_path: Path) -> None:
    model, folder = models("qwen2", "float32")
    model.set_attn_implementation("eager")
    modeling = sys.modules[type(model).__module__]
    repeat = modeling.repeat_kv
    modeling.repeat_kv = lambda x, n: x.repeat(1, n, 1, 1)
    try:
        with torch.autocast("cpu", torch.float16):
            capture(model, tmp_path / "out")
    finally:
        modeling.repeat_kv = repeat
    report = diagnose(tmp_path / "out", folder)
    assert report["findings"][0]["id"] == "attention-gqa-repeat-vs-interleave"
    assert report["first_divergence"]["point"] == "model.layers.0.self_attn:scores"
