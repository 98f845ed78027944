"""Two ranks with DTensor weights: each writes its part, and parscope joins them."""

from __future__ import annotations

import faulthandler
import json
import multiprocessing
from pathlib import Path
from typing import Any

import parscope_capture
import pytest
import torch
import torch.distributed as dist
from engines import diagnose, program, run
from safetensors.torch import load_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

RANKS = 2


def shard(model: Any) -> None:
    mesh = init_device_mesh("cpu", (RANKS,))
    for layer in model.model.layers:
        columns = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"]
        plan: dict[str, Any] = {name: ColwiseParallel() for name in columns}
        parallelize_module(layer, mesh, plan | {"self_attn.o_proj": RowwiseParallel(), "mlp.down_proj": RowwiseParallel()})


def worker(rank: int, model: Any, out: Path, wrong: bool) -> None:
    """One rank, forked from the test so that nothing is imported again."""
    faulthandler.enable()
    dist.init_process_group("gloo", init_method=f"file://{out}.store", rank=rank, world_size=RANKS)
    shard(model)
    if wrong:  # every rank holds the first rank's queries
        for layer in model.model.layers:
            for parameter in (layer.self_attn.q_proj.weight, layer.self_attn.q_proj.bias):
                dist.broadcast(parameter.data.to_local(), 0)
    with parscope_capture.record(model, out):
        run(model, program())
    dist.destroy_process_group()


def on_ranks(model: Any, out: Path, wrong: bool = False) -> Path:
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=worker, args=(rank, model, out, wrong)) for rank in range(RANKS)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(100)
        if process.is_alive():
            process.kill()
    assert [process.exitcode for process in ranks] == [0] * RANKS
    return out


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_two_ranks(models: Any, tmp_path: Path, attention: str) -> None:
    model, folder = models("qwen2", "float32")
    model.set_attn_implementation(attention)
    out = on_ranks(model, tmp_path / "out")
    manifest = json.loads((out / "trace.json").read_text())
    assert manifest["world_size"] == manifest["tensor_parallel"] == RANKS
    assert len(manifest["steps"]) == 4 * RANKS
    assert manifest["shards"]["model.layers.1.self_attn.q_proj"] == {"dim": 2}
    assert manifest["shards"]["model.layers.0.self_attn:k_cache"] == {"dim": 1}
    assert "model.layers.0.self_attn.o_proj" not in manifest["shards"]
    assert "Shard(dim=1)" in manifest["placements"]["model.layers.0.mlp.down_proj.weight"]
    part = load_file(out / "step-00000.rank-00001.safetensors")
    assert part["model.layers.0.self_attn:q_rope"].shape == (2, 3, 7, 8)
    report = diagnose(out, folder)
    assert report["verdict"] == "equivalent", report["findings"]


def test_first_shard_everywhere(models: Any, tmp_path: Path) -> None:
    model, folder = models("qwen2", "float32")
    report = diagnose(on_ranks(model, tmp_path / "out", wrong=True), folder)
    errors = [f for f in report["findings"] if f["severity"] == "error"]
    assert errors[0]["id"] == "shard-all-ranks-load-shard-0", json.dumps(errors, indent=1)[:3000]
    assert report["first_divergence"]["point"] == "model.layers.0.self_attn.q_proj"
