"""Tiny random models of transformers, and the run that every test records: ragged prefill, a chunk, two decode steps."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import parscope_capture
import torch
import transformers

ROOT = Path(__file__).resolve().parents[2]
PARSCOPE = os.environ.get("PARSCOPE", str(ROOT / "build" / "parscope"))
VOCABULARY = 97

# No two sizes equal, but for q_proj, which is square: a transposed weight must fit.
_SHAPE = dict(
    vocab_size=VOCABULARY, hidden_size=48, intermediate_size=72, num_hidden_layers=2, max_position_embeddings=160, rms_norm_eps=1e-6
)
_FAMILIES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "qwen2": (
        transformers.Qwen2Config,
        transformers.Qwen2ForCausalLM,
        dict(num_attention_heads=6, num_key_value_heads=2, rope_parameters={"rope_type": "default", "rope_theta": 5000.0}),
    ),
    "llama": (
        transformers.LlamaConfig,
        transformers.LlamaForCausalLM,
        dict(
            num_attention_heads=4,
            num_key_value_heads=2,
            rope_parameters={
                "rope_type": "llama3",
                "rope_theta": 5000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
            },
        ),
    ),
    "qwen3": (
        transformers.Qwen3Config,
        transformers.Qwen3ForCausalLM,
        dict(
            num_attention_heads=6,
            num_key_value_heads=3,
            head_dim=10,
            rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
        ),
    ),
}


@dataclass(frozen=True)
class Engine:
    """A model as it was saved, and how it runs."""

    family: str
    attention: str
    dtype: str

    @property
    def modeling(self) -> Any:
        return getattr(transformers.models, self.family).__dict__[f"modeling_{self.family}"]


def make(family: str, dtype: str, folder: Path) -> Any:
    """A random model with biases and gains that matter, saved in `folder`."""
    config_type, model_type, sizes = _FAMILIES[family]
    torch.manual_seed(sum(map(ord, family)))
    model = model_type(config_type(**_SHAPE, **sizes)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.copy_(1 + 0.2 * torch.randn_like(parameter))
            else:
                parameter.normal_(0, 0.15)
    model = model.to(getattr(torch, dtype))
    model.save_pretrained(folder)
    return model


@dataclass
class Step:
    ids: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor


def program(padding: int = 3, seed: int = 5) -> list[Step]:
    """Prefill 2 x 7 (row 0 padded on the left), a chunk of 3, two single tokens."""
    generator = torch.Generator().manual_seed(seed)
    steps, total = [], 0
    for tokens in (7, 3, 1, 1):
        total += tokens
        ids = torch.randint(0, VOCABULARY, (2, tokens), generator=generator)
        mask = torch.ones(2, total, dtype=torch.long)
        mask[0, :padding] = 0
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -tokens:]
        steps.append(Step(ids, mask, positions))
    return steps


def run(model: Any, steps: list[Step], ragged: bool = True) -> None:
    """As people call it: with a mask and positions where there is padding, without where there is none."""
    cache = None
    for step in steps:
        rows = {"attention_mask": step.mask, "position_ids": step.positions} if ragged else {}
        with torch.no_grad():
            cache = model(input_ids=step.ids, **rows, cache=cache, use_cache=True).cache


def capture(model: Any, out: Path, ragged: bool = True, **options: Any) -> Path:
    with parscope_capture.record(model, out, **options):
        run(model, program(3 if ragged else 0), ragged)
    return out


def parscope(*words: str | Path) -> tuple[int, str, str]:
    done = subprocess.run([PARSCOPE, *map(str, words)], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


def diagnose(trace: Path, model_dir: Path) -> dict[str, Any]:
    code, out, err = parscope("diagnose", trace, "--model", model_dir, "--json")
    assert code in (0, 1), f"exit code {code}: {err}"
    report: dict[str, Any] = json.loads(out)
    assert (report["verdict"] == "equivalent") == (code == 0)
    return report


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute or a dict's entry exchanged for the time of the block."""
    entries = owner if isinstance(owner, dict) else None
    old = owner[name] if entries is not None else owner.__dict__.get(name)
    had = name in (owner if entries is not None else owner.__dict__)
    if entries is not None:
        owner[name] = value
    else:
        setattr(owner, name, value)
    try:
        yield
    finally:
        if entries is not None:
            owner[name] = old
        elif had:
            setattr(owner, name, old)
        else:
            delattr(owner, name)
