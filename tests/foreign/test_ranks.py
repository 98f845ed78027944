"""Two ranks with DTensor weights: each writes its part, and parscope joins them."""

from __future__ import annotations

import faulthandler
import json
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import parscope_capture
import pytest
import torch.distributed as dist
from engines import diagnose, parscope, program, run
from parscope_capture.writer import CaptureError
from safetensors.torch import load_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

RANKS = 2


def shard(model: Any) -> None:
    mesh = init_device_mesh("cpu", (RANKS,))
    for layer in model.model.layers:
        columns = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"]
        plan: dict[str, Any] = {name: ColwiseParallel() for name in columns}
        parallelize_module(layer, mesh, plan | {"self_attn.o_proj": RowwiseParallel(), "mlp.down_proj": RowwiseParallel()})


def tensor_parallel(rank: int, model: Any, out: Path) -> None:
    shard(model)
    with parscope_capture.record(model, out):
        run(model, program())


def first_queries_everywhere(rank: int, model: Any, out: Path) -> None:
    shard(model)
    for layer in model.model.layers:
        for parameter in (layer.self_attn.q_proj.weight, layer.self_attn.q_proj.bias):
            dist.broadcast(parameter.data.to_local(), 0)
    with parscope_capture.record(model, out):
        run(model, program())


def fully_sharded(rank: int, model: Any, out: Path) -> None:
    """Each rank another batch, as in training."""
    mesh = init_device_mesh("cpu", (RANKS,))
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    with parscope_capture.record(model, out):
        run(model, program(seed=rank))


def fully_sharded_gradients(rank: int, model: Any, out: Path) -> None:
    fully_shard(model, mesh=init_device_mesh("cpu", (RANKS,)))
    with pytest.raises(CaptureError, match="means over the batches of all ranks"):
        parscope_capture.record(model, out, gradients=True)


def one_comes_late(rank: int, model: Any, out: Path) -> None:
    time.sleep(1.0 if rank == 0 else 0.0)
    with parscope_capture.record(model, out):
        run(model, program(seed=rank)[:1])


def one_fails(rank: int, model: Any, out: Path) -> None:
    with parscope_capture.record(model, out):
        run(model, program()[:1])
        if rank == 1:
            raise ZeroDivisionError
        run(model, program(seed=1)[:1])


def worker(job: Callable[[int, Any, Path], None], rank: int, model: Any, out: Path) -> None:
    """One rank, forked from the test so that nothing is imported again."""
    faulthandler.enable()
    dist.init_process_group("gloo", init_method=f"file://{out}.store", rank=rank, world_size=RANKS)
    job(rank, model, out)
    dist.destroy_process_group()


def exit_codes(job: Callable[[int, Any, Path], None], model: Any, out: Path) -> list[int | None]:
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=worker, args=(job, rank, model, out)) for rank in range(RANKS)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(100)
        if process.is_alive():
            process.kill()
    return [process.exitcode for process in ranks]


def on_ranks(job: Callable[[int, Any, Path], None], model: Any, out: Path) -> Path:
    assert exit_codes(job, model, out) == [0] * RANKS
    return out


def manifest_of(trace: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((trace / "trace.json").read_text())
    return found


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_two_ranks(models: Any, tmp_path: Path, attention: str) -> None:
    model, folder = models("qwen2", "float32")
    model.set_attn_implementation(attention)
    out = on_ranks(tensor_parallel, model, tmp_path / "out")
    manifest = manifest_of(out)
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
    report = diagnose(on_ranks(first_queries_everywhere, model, tmp_path / "out"), folder)
    errors = [f for f in report["findings"] if f["severity"] == "error"]
    assert errors[0]["id"] == "shard-all-ranks-load-shard-0", json.dumps(errors, indent=1)[:3000]
    assert report["first_divergence"]["point"] == "model.layers.0.self_attn.q_proj"


# ---- ranks that share the batch, not the layers --------------------------------------------------------------------------


def test_fully_sharded_data(models: Any, tmp_path: Path) -> None:
    """FSDP2 cuts every weight, too, and gathers it before use: its values are whole, and no rank has a part of a head."""
    model, folder = models("qwen2", "float32")
    out = on_ranks(fully_sharded, model, tmp_path / "out")
    manifest = manifest_of(out)
    assert (manifest["world_size"], manifest["tensor_parallel"]) == (RANKS, 1)
    assert "shards" not in manifest and "weights" not in manifest
    assert manifest["placements"].keys() == {name for name, _ in model.named_parameters()}
    assert set(manifest["placements"].values()) == {"(Shard(dim=0),)"}
    parts = [load_file(out / f"step-00000.rank-{rank:05}.safetensors") for rank in range(RANKS)]
    assert all(part["model.layers.0.self_attn.q_proj"].shape == (2, 7, 48) for part in parts)
    assert not (parts[0]["input_ids"] == parts[1]["input_ids"]).all()
    report = diagnose(out, folder)
    assert report["verdict"] == "equivalent", report["findings"]


def test_fully_sharded_gradients(models: Any, tmp_path: Path) -> None:
    """A mean over other batches than the trace holds could not be judged."""
    on_ranks(fully_sharded_gradients, models("llama", "float32")[0], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_ranks_wait_until_the_folder_is_clear(models: Any, tmp_path: Path) -> None:
    """Rank 0 removes what an aborted run left, and must not remove what rank 1 writes meanwhile."""
    model, _ = models("qwen2", "float32")
    left = tmp_path / "out.partial"
    left.mkdir()
    (left / "step-00009.rank-00001.safetensors").write_bytes(b"of an aborted run")
    out = on_ranks(one_comes_late, model, tmp_path / "out")
    assert {p.name for p in out.iterdir()} == {"trace.json"} | {f"step-00000.rank-0000{rank}.safetensors" for rank in range(RANKS)}
    assert len(manifest_of(out)["steps"]) == RANKS


def test_a_rank_that_fails_leaves_no_trace(models: Any, tmp_path: Path) -> None:
    model, folder = models("qwen2", "float32")
    codes = exit_codes(one_fails, model, tmp_path / "out")
    assert all(codes), codes
    assert not (tmp_path / "out").exists()
    code, _, err = parscope("diagnose", tmp_path / "out", "--model", folder)
    assert code == 2 and "does not exist" in err
