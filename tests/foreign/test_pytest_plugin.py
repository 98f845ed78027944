"""The pytest plugin in a pytest of its own: a right model passes, a wrong one fails with the cause, the place and the fix."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from engines import PARSCOPE, make

# One process for all, since it imports torch.
TESTS = """
import pytest, torch, transformers
from transformers.models.qwen2 import modeling_qwen2
from parscope_capture.pytest import assert_equivalent
MODEL = {model!r}

@pytest.fixture
def model():
    return transformers.Qwen2ForCausalLM.from_pretrained(MODEL)

def test_right(model):
    assert assert_equivalent(model, MODEL)["verdict"] == "equivalent"

def test_right_in_steps(model, tmp_path):
    def chat(model):
        first = model(torch.tensor([[5, 6, 7, 8]]), use_cache=True)
        model(torch.tensor([[9]]), cache=first.cache, use_cache=True)
    assert_equivalent(model, MODEL, chat, keep=tmp_path / "kept")
    assert len(list((tmp_path / "kept").glob("step-*"))) == 2

def test_wrong(model, monkeypatch):
    monkeypatch.setattr(modeling_qwen2, "repeat_kv", lambda x, n: x.repeat(1, n, 1, 1))
    model.set_attn_implementation("eager")
    assert_equivalent(model, MODEL, torch.tensor([[5, 6, 7, 8]]))

def test_no_trace(tmp_path):
    assert_equivalent(tmp_path / "nothing", MODEL)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plugin")
    make("qwen2", "float32", folder / "model")
    (folder / "test_port.py").write_text(TESTS.format(model=str(folder / "model")))
    return folder


def run_pytest(folder: Path, *words: str, **environment: str) -> str:
    # Here the package is on PYTHONPATH; where it is installed, its entry point loads the plugin. Both at once is an error, and
    # `pip install ./capture` leaves an entry point in the checkout.
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "parscope_capture.pytest", "-p", "no:cacheprovider", str(folder), *words],
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "PARSCOPE"} | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | environment,
        cwd=folder,
    )
    return done.stdout + done.stderr


def test_verdicts(folder: Path) -> None:
    said = run_pytest(folder, "--parscope", PARSCOPE)
    assert "2 failed, 2 passed" in said, said
    for words in (
        "first divergence: model.layers.0.self_attn:scores  (step 0, rank 0)",
        "cause: attention-gqa-repeat-vs-interleave  [attention, exact]",
        "fix: ",
        "RuntimeError: parscope could not judge",
        "nothing",
    ):
        assert words in said, said


def test_program_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import parscope_capture.pytest as plugin

    monkeypatch.setattr(plugin, "_chosen", None)
    monkeypatch.setenv("PARSCOPE", PARSCOPE)
    assert plugin.program() == PARSCOPE
    monkeypatch.setenv("PARSCOPE", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="PARSCOPE names .*none, which is no program"):
        plugin.program()
    monkeypatch.delenv("PARSCOPE")
    (tmp_path / "parscope").symlink_to(PARSCOPE)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert plugin.program() == str(tmp_path / "parscope")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(FileNotFoundError, match="--parscope PROGRAM, set PARSCOPE, or put it on the PATH"):
        plugin.program()
