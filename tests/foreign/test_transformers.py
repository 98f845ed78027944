"""transformers as it is released is equivalent to the reference; with a mistake patched in, the mistake is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from engines import Engine, capture, diagnose
from faults import FIRST_FIVE, Fault, cases, expect_named, padding_counts


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", ["qwen2", "llama", "qwen3"])
def test_as_released(models: Any, tmp_path: Path, family: str, attention: str, dtype: str) -> None:
    model, folder = models(family, dtype)
    model.set_attn_implementation(attention)
    report = diagnose(capture(model, tmp_path / "trace"), folder)
    assert report["verdict"] == "equivalent", report["findings"]
    points = {p["point"] for p in report["points"]}
    assert not [p for p in report["points"] if p["status"] not in ("ok", "ignored")]
    assert ("model.layers.1.self_attn:scores" in points) == (attention == "eager")
    assert {"model:mask", "model.layers.0.self_attn:k_cache", "model.layers.1.mlp:act", "lm_head"} <= points
    assert report["power"] > 0.8


@pytest.mark.parametrize(("fault", "engine"), cases(lambda fault: fault.id in FIRST_FIVE))
def test_patched(models: Any, tmp_path: Path, fault: Fault, engine: Engine) -> None:
    expect_named(models, tmp_path, fault, engine)


def test_harmless(models: Any, tmp_path: Path) -> None:
    model, folder = models("qwen2", "float32")
    model.set_attn_implementation("sdpa")
    with padding_counts(model):
        report = diagnose(capture(model, tmp_path / "trace"), folder)
    assert report["verdict"] == "equivalent"
    assert any("rope" in f["id"] or "rotat" in f["message"] for f in report["findings"]), report["findings"]
