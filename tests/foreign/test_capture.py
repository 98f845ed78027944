"""parscope_capture by itself: what is recorded, what is not, and what is left when a run ends early."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import parscale_model
import parscope_capture
import pytest
import torch
from engines import ROOT, capture, diagnose, program, replaced, run
from parscope_capture.writer import CaptureError, StepFile
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from transformers import StaticCache


def step(trace: Path, number: int = 0) -> dict[str, torch.Tensor]:
    return load_file(trace / f"step-{number:05}.rank-00000.safetensors")


def manifest(trace: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((trace / "trace.json").read_text())
    return found


# ---- files --------------------------------------------------------------------------------------------------------------


def test_every_dtype_round_trips(tmp_path: Path) -> None:
    file = StepFile(tmp_path / "step.safetensors")
    values = {str(t): torch.arange(6).reshape(2, 3).to(t) for t in (torch.bfloat16, torch.float16, torch.float64, torch.bool, torch.int32)}
    values["transposed"] = torch.randn(3, 5).t()
    values["empty"] = torch.zeros(0, 4)
    values["scalar"] = torch.tensor(2.5)
    for name, value in values.items():
        file.write(name, value)
    assert not (tmp_path / "step.safetensors").exists()  # the name comes last
    file.close()
    read = load_file(tmp_path / "step.safetensors")
    assert read.keys() == values.keys()
    assert all(torch.equal(read[n], v) and read[n].dtype == v.dtype for n, v in values.items())
    assert [p.name for p in tmp_path.iterdir()] == ["step.safetensors"]


def test_a_header_without_limit(tmp_path: Path) -> None:
    file = StepFile(tmp_path / "step.safetensors")
    for i in range(3000):
        file.write(f"some.rather.long.name.of.a.module.{i}", torch.tensor([float(i)]))
    file.close()
    with safe_open(tmp_path / "step.safetensors", "pt") as read:
        assert read.get_tensor("some.rather.long.name.of.a.module.2999").item() == 2999


def test_memory_holds_one_value(tmp_path: Path) -> None:
    """64 values of 4 MB: the process must not grow by more than a few of them."""
    script = """
        import resource, sys, torch
        from pathlib import Path
        from parscope_capture.writer import StepFile
        file = StepFile(Path(sys.argv[1]) / "step.safetensors")
        file.write("first", torch.randn(1 << 20))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for i in range(64):
            file.write(f"value{i}", torch.randn(1 << 20))
        file.close()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), tmp_path], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 32 << 10, f"{done.stdout} kB"
    assert (tmp_path / "step.safetensors").stat().st_size > 256 << 20


# ---- runs ---------------------------------------------------------------------------------------------------------------


def test_choice_of_points_layers_and_steps(models: Any, tmp_path: Path) -> None:
    model, _ = models("qwen2", "float32")
    model.set_attn_implementation("eager")
    capture(model, tmp_path / "a", points=["*.self_attn:*", "lm_head"], layers=[1], steps=[0, 3])
    assert [s["step"] for s in manifest(tmp_path / "a")["steps"]] == [0, 3]
    points = {n for n in step(tmp_path / "a", 3) if "." in n or n == "lm_head"}
    assert "model.layers.1.self_attn:k_cache" in points and "lm_head" in points
    assert all(n == "lm_head" or n.startswith("model.layers.1.self_attn:") for n in points)
    capture(model, tmp_path / "b", points="layers", steps=[0])
    assert {"model.embed_tokens", "model.layers.0", "model.layers.1", "model.norm", "lm_head"} == step(tmp_path / "b").keys() - {
        "input_ids",
        "attention_mask",
        "position_ids",
    }
    capture(model, tmp_path / "c", points="modules", steps=[0])
    assert not [n for n in step(tmp_path / "c") if ":" in n]


def test_model_is_as_before(models: Any, tmp_path: Path) -> None:
    model, _ = models("qwen2", "float32")
    modeling = sys.modules[type(model).__module__]
    before, function = program()[0], modeling.apply_rotary_pos_emb
    with torch.no_grad():
        plain = model(before.ids).logits
        with parscope_capture.record(model, tmp_path / "trace"):
            seen = model(before.ids).logits
    assert torch.equal(plain, seen)
    assert modeling.apply_rotary_pos_emb is function
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_new_prefill_is_a_new_trace(models: Any, tmp_path: Path) -> None:
    model, folder = models("qwen2", "float32")
    with parscope_capture.record(model, tmp_path / "out") as recorder:
        for seed in (1, 2):
            run(model, program(seed=seed)[:2])
    assert [t.name for t in recorder.traces] == ["out", "out.2"]
    for trace in recorder.traces:
        assert len(manifest(trace)["steps"]) == 2
        assert diagnose(trace, folder)["verdict"] == "equivalent"
    assert not torch.equal(step(tmp_path / "out")["input_ids"], step(tmp_path / "out.2")["input_ids"])


def test_generate(models: Any, tmp_path: Path) -> None:
    model, folder = models("llama", "float32")
    model.set_attn_implementation("sdpa")
    first = program()[0]
    with torch.no_grad(), parscope_capture.record(model, tmp_path / "out"):
        model.generate(first.ids, attention_mask=first.mask, max_new_tokens=3, do_sample=False, pad_token_id=0)
    assert len(manifest(tmp_path / "out")["steps"]) == 3
    assert diagnose(tmp_path / "out", folder)["verdict"] == "equivalent"


def test_static_cache(models: Any, tmp_path: Path) -> None:
    """Slots that hold nothing yet are no part of the trace."""
    model, folder = models("qwen2", "float32")
    model.set_attn_implementation("eager")
    cache = StaticCache(config=model.config, max_cache_len=24)
    with torch.no_grad(), parscope_capture.record(model, tmp_path / "out"):
        for item in program(padding=0)[:3]:
            model(item.ids, cache=cache, use_cache=True)
    assert step(tmp_path / "out", 1)["model.layers.0.self_attn:k_cache"].shape == (2, 2, 10, 8)
    assert step(tmp_path / "out", 1)["model.layers.0.self_attn:scores"].shape == (2, 6, 3, 10)
    assert diagnose(tmp_path / "out", folder)["verdict"] == "equivalent"


def test_bare_decoder(models: Any, tmp_path: Path) -> None:
    model, folder = models("qwen2", "float32")
    with torch.no_grad(), parscope_capture.record(model.model, tmp_path / "out"):
        model.model(program()[0].ids)
    assert "model.layers.1.mlp.down_proj" in step(tmp_path / "out")
    assert "model.layers.1.mlp.down_proj.weight" in manifest(tmp_path / "out")["weights"]
    assert diagnose(tmp_path / "out", folder)["verdict"] == "equivalent"


def test_any_module(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(inplace=True))
    x = torch.randn(4, 3)
    with parscope_capture.record(net, tmp_path / "out"):
        net(x)
    values = step(tmp_path / "out")
    assert values.keys() == {"0", "1"}
    assert (values["0"] < 0).any() and not (values["1"] < 0).any()  # the ReLU in place did not reach what was stored


def test_gradients(models: Any, tmp_path: Path) -> None:
    model, _ = models("llama", "float32")
    ids = program(padding=0)[0].ids
    try:
        with parscope_capture.record(model, tmp_path / "out", gradients=True, points="layers"):
            model(ids, labels=ids).loss.backward()
        names = {n for n in step(tmp_path / "out") if n.startswith("grad/")}
        assert names == {f"grad/{n}" for n, _ in model.named_parameters()}
        expected = model.model.layers[1].mlp.up_proj.weight.grad
        assert torch.equal(step(tmp_path / "out")["grad/model.layers.1.mlp.up_proj.weight"], expected)
    finally:
        model.zero_grad(set_to_none=True)


# ---- which kernel ran ---------------------------------------------------------------------------------------------------


def test_backend_that_ran(models: Any, tmp_path: Path) -> None:
    model, folder = models("qwen2", "float32")
    for attention in ("eager", "sdpa"):
        model.set_attn_implementation(attention)
        events = manifest(capture(model, tmp_path / attention, steps=[0]))["backends"]
        assert len(events) == 1 and events[0]["requested"] == events[0]["executed"] == attention
        assert ("kernel" in events[0]) == (attention == "sdpa")


def test_fallback_is_told(models: Any, tmp_path: Path) -> None:
    """sdpa is asked for, and a library puts eager code in its place: numbers are right, and the trace says it."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    model, _ = models("qwen2", "float32")
    model.set_attn_implementation("sdpa")
    eager = sys.modules[type(model).__module__].eager_attention_forward

    def instead(module: Any, q: Any, k: Any, v: Any, mask: Any, **rest: Any) -> Any:
        added = None if mask is None else torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(q.dtype).min)
        return eager(module, q, k, v, added, scaling=module.scaling)

    old = ALL_ATTENTION_FUNCTIONS["sdpa"]
    ALL_ATTENTION_FUNCTIONS["sdpa"] = instead
    try:
        capture(model, tmp_path / "out", steps=[0])
    finally:
        ALL_ATTENTION_FUNCTIONS["sdpa"] = old
    (event,) = manifest(tmp_path / "out")["backends"]
    assert (event["requested"], event["executed"]) == ("sdpa", "eager")
    assert "model.layers.0.self_attn:probs" in step(tmp_path / "out")


def test_flex_attention(models: Any, tmp_path: Path) -> None:
    """Flex attention without its compiler, which the CPU does not need for one small call."""
    model, folder = models("llama", "float32")
    model.set_attn_implementation("flex_attention")
    item = program(padding=0)[0]
    torch.compiler.set_stance("force_eager")
    try:
        with torch.no_grad(), parscope_capture.record(model, tmp_path / "out"):
            model(item.ids)
    finally:
        torch.compiler.set_stance("default")
    (event,) = manifest(tmp_path / "out")["backends"]
    assert (event["requested"], event["executed"]) == ("flex_attention", "flex_attention")
    values = step(tmp_path / "out")
    assert "model.layers.0.self_attn:scores" not in values
    assert torch.equal(values["model:mask"][0, 0], torch.ones(7, 7, dtype=torch.bool).tril())
    assert diagnose(tmp_path / "out", folder)["verdict"] == "equivalent"


# ---- ParScale -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["parscale-bytes", "cross-attn-bytes"])
def test_parscale(tmp_path: Path, name: str) -> None:
    folder = ROOT / "fixtures" / "models" / name
    model, cache = parscale_model.load(folder), parscale_model.Cache()
    with torch.no_grad(), parscope_capture.record(model, tmp_path / "out"):
        for item in program()[:3]:
            model(item.ids, item.mask, item.positions, cache)
    report = diagnose(tmp_path / "out", folder)
    assert report["verdict"] == "equivalent", json.dumps(report["findings"], indent=1)[:3000]
    points = {p["point"] for p in report["points"] if p["status"] == "ok"}
    expected = {"model:replicated", "model:aggregate_input", "model:aggregate_weights", "model:aggregated", "model:mask"}
    expected |= {f"model.layers.0.self_attn:{p}" for p in ("q_rope", "k_cache", "v_cache", "scores", "probs", "context")}
    if name == "cross-attn-bytes":
        cross = next(p.rpartition(".")[0] for p in points if p.endswith("cross_replica_attn.o_proj"))
        expected |= {f"{cross}:{p}" for p in ("q_rope", "k_rope", "probs", "context")}
    assert expected <= points, expected - points


def test_parscale_wrong(tmp_path: Path) -> None:
    folder = ROOT / "fixtures" / "models" / "parscale-bytes"
    model, item = parscale_model.load(folder), program()[0]
    forward = parscale_model.Cache.update

    def tiled(self: Any, k: Any, v: Any, layer: int, prefix: Any) -> Any:
        if layer not in self.layers:
            batch = k.shape[0] // prefix[0].shape[0]
            self.prefix = prefix[0].shape[2]
            self.layers[layer] = tuple(p.repeat(batch, 1, 1, 1) for p in prefix)
        return forward(self, k, v, layer, prefix)

    with replaced(parscale_model.Cache, "update", tiled), torch.no_grad():
        with parscope_capture.record(model, tmp_path / "out"):
            model(item.ids, item.mask, item.positions, parscale_model.Cache())
    report = diagnose(tmp_path / "out", folder)
    assert report["findings"][0]["id"] == "replica-prefix-order"
    assert report["first_divergence"]["point"] == "model.layers.0.self_attn:k_cache"


# ---- what can go wrong --------------------------------------------------------------------------------------------------


def test_refusals(models: Any, tmp_path: Path) -> None:
    model, _ = models("qwen2", "float32")
    capture(model, tmp_path / "out", steps=[0])
    with pytest.raises(CaptureError, match="is there already and not empty"):
        capture(model, tmp_path / "out")
    assert len(manifest(tmp_path / "out")["steps"]) == 1  # left as it was
    capture(model, tmp_path / "out", overwrite=True)
    assert len(manifest(tmp_path / "out")["steps"]) == 4
    with pytest.raises(CaptureError, match="the model was not called"):
        with parscope_capture.record(model, tmp_path / "none"):
            pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_only_a_trace_is_overwritten(models: Any, tmp_path: Path) -> None:
    model, _ = models("qwen2", "float32")
    papers = tmp_path / "papers"
    papers.mkdir()
    (papers / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("not even a folder")
    for name in ("papers", "file"):
        with pytest.raises(CaptureError, match="is there already and not empty; it holds no trace"):
            capture(model, tmp_path / name, overwrite=True)
    assert (papers / "thesis.txt").read_text() == "years of work" and (tmp_path / "file").is_file()
    # The trace that is replaced is there until the new one is whole.
    capture(model, tmp_path / "out", steps=[0])
    with pytest.raises(ZeroDivisionError), parscope_capture.record(model, tmp_path / "out", overwrite=True):
        run(model, program()[:2])
        raise ZeroDivisionError
    assert len(manifest(tmp_path / "out")["steps"]) == 1
    (tmp_path / "empty").mkdir()
    capture(model, tmp_path / "empty", steps=[0])  # an empty folder is nobody's


def test_an_error_inside_the_block(models: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, folder = models("qwen2", "float32")
    with pytest.raises(ZeroDivisionError):
        with parscope_capture.record(model, tmp_path / "out"):
            run(model, program()[:2])
            raise ZeroDivisionError
    assert not (tmp_path / "out").exists()
    assert "ZeroDivisionError after step 1; what was recorded is in" in capsys.readouterr().err
    report = diagnose(tmp_path / "out.partial", folder)
    assert report["verdict"] == "equivalent"
    assert [f["id"] for f in report["findings"]] == ["capture-ended-early"]
    run(model, program()[:1])  # the model has no hooks left


def test_an_error_inside_the_model(models: Any, tmp_path: Path) -> None:
    """Half a step is worth having, and does not pass for a whole one."""
    model, folder = models("qwen2", "float32")
    layer = model.model.layers[1].mlp
    forward, calls = layer.forward, []

    def fails(x: torch.Tensor) -> torch.Tensor:
        calls.append(x)
        if len(calls) == 2:
            raise ZeroDivisionError
        return forward(x)

    with replaced(layer, "forward", fails), pytest.raises(ZeroDivisionError):
        with parscope_capture.record(model, tmp_path / "out"):
            run(model, program())
    assert not (tmp_path / "out").exists()
    assert manifest(tmp_path / "out.partial")["ended"] == "ZeroDivisionError in step 1"
    values = step(tmp_path / "out.partial", 1)
    assert "model.layers.1.self_attn.o_proj" in values and "model.layers.1.mlp.down_proj" not in values
    report = diagnose(tmp_path / "out.partial", folder)
    assert [(f["id"], f["severity"]) for f in report["findings"]] == [("capture-ended-early", "warning")]
    assert "ZeroDivisionError in step 1" in report["findings"][0]["message"]
    # The next recording in the same place is not disturbed by what lies there.
    capture(model, tmp_path / "out", steps=[0])
    assert "ended" not in manifest(tmp_path / "out") and not (tmp_path / "out.partial").exists()


def test_a_killed_run_leaves_no_trace(models: Any, tmp_path: Path) -> None:
    _, folder = models("qwen2", "float32")
    script = f"""
        import os, signal, torch, transformers, parscope_capture
        model = transformers.Qwen2ForCausalLM.from_pretrained({str(folder)!r})
        with parscope_capture.record(model, {str(tmp_path / "out")!r}):
            cache = model(torch.tensor([[1, 2, 3]]), use_cache=True).cache
            model(torch.tensor([[4]]), cache=cache)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, env=os.environ)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "out").exists()
    names = {p.name for p in (tmp_path / "out.partial").iterdir()}
    assert names == {"step-00000.rank-00000.safetensors", "step-00001.rank-00000.safetensors.partial"}


def test_installs_from_the_checkout(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"]
    source = tmp_path / "capture"
    subprocess.run(["cp", "-r", ROOT / "capture", source], check=True)  # setuptools builds in the source folder
    subprocess.run([*pip, "--target", tmp_path / "site", source], check=True, capture_output=True)
    names = {str(p.relative_to(tmp_path / "site")) for p in (tmp_path / "site").rglob("*") if p.is_file()}
    assert {"parscope_capture/py.typed", "parscope_capture/recorder.py", "parscope_capture/pytest.py"} <= names
    entry = next(p for p in (tmp_path / "site").rglob("entry_points.txt"))
    assert "parscope = parscope_capture.pytest" in entry.read_text()
