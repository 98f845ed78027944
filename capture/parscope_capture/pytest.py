"""`assert_equivalent`: a test that fails with the name of the mistake.

    from parscope_capture.pytest import assert_equivalent

    def test_port(model):
        assert_equivalent(model, "checkpoints/Qwen2-0.5B")

The program is --parscope, or the variable PARSCOPE, or `parscope` on the PATH.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from .recorder import record

Inputs = torch.Tensor | Mapping[str, Any] | Callable[[nn.Module], object] | None
_chosen: str | None = None


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("parscope")
    group.addoption("--parscope", metavar="PROGRAM", help="the parscope program (else $PARSCOPE, else the one on the PATH)")


def pytest_configure(config: pytest.Config) -> None:
    global _chosen
    _chosen = config.getoption("--parscope", default=None)


def program() -> str:
    """Where parscope is."""
    for source, found in (("--parscope", _chosen), ("PARSCOPE", os.environ.get("PARSCOPE"))):
        if found:
            if not shutil.which(found):
                raise FileNotFoundError(f"{source} names {found}, which is no program")
            return found
    found = shutil.which("parscope")
    if not found:
        raise FileNotFoundError("no parscope: give --parscope PROGRAM, set PARSCOPE, or put it on the PATH")
    return found


def sample_inputs(model: nn.Module, seed: int = 0) -> dict[str, torch.Tensor]:
    """Two prompts of 9 and 6 tokens, the shorter one padded on the left."""
    vocabulary = int(model.config.vocab_size)  # type: ignore[union-attr,arg-type]
    parameter = next(model.parameters())
    ids = torch.randint(0, vocabulary, (2, 9), generator=torch.Generator().manual_seed(seed))
    mask = torch.ones_like(ids)
    mask[1, :3] = 0
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    found = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
    return {name: value.to(parameter.device) for name, value in found.items()}


def _run(model: nn.Module, inputs: Inputs) -> None:
    with torch.no_grad():
        if isinstance(inputs, torch.Tensor):
            model(inputs)
        elif isinstance(inputs, Mapping):
            model(**inputs)
        elif inputs is not None:
            inputs(model)
        else:
            model(**sample_inputs(model))


def assert_equivalent(
    model_or_trace: nn.Module | str | Path,
    reference_dir: str | Path,
    inputs: Inputs = None,
    *,
    points: str | list[str] | None = None,
    keep: str | Path | None = None,
) -> dict[str, Any]:
    """Fails unless the model, or a recorded trace, computes what the checkpoint in `reference_dir` says. Returns the report.

    inputs  token ids, keyword arguments of the model, or a function that is given the model and runs it as it likes
    points  what is recorded, as for `record`
    keep    a folder where the trace stays, for `parscope diagnose`; by default it is removed
    """
    __tracebackhide__ = True
    if isinstance(model_or_trace, (str, Path)):
        return _judge(Path(model_or_trace), Path(reference_dir), str(model_or_trace))
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(keep) if keep is not None else Path(folder) / "trace"
        with record(model_or_trace, trace, points=points, overwrite=True, progress=False):
            _run(model_or_trace, inputs)
        return _judge(trace, Path(reference_dir), type(model_or_trace).__name__)


def _judge(trace: Path, reference: Path, name: str) -> dict[str, Any]:
    __tracebackhide__ = True
    done = subprocess.run(
        [program(), "diagnose", str(trace), "--model", str(reference), "--json"], capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 1) and not done.stdout.strip():
        raise RuntimeError(f"parscope could not judge {name}: {done.stderr.strip()}")
    report: dict[str, Any] = json.loads(done.stdout)
    if done.returncode != 0 or report["verdict"] != "equivalent":
        raise AssertionError(explain(report, name, reference))
    return report


def explain(report: Mapping[str, Any], name: str, reference: Path) -> str:
    """The report's first findings in a few lines: what, where, how to mend it."""
    lines = [f"{name} does not compute what {reference} says: {report['verdict']}"]
    first = report.get("first_divergence")
    if first:
        lines.append(f"  first divergence: {first['point']}  (step {first['step']}, rank {first['rank']}) at {first['where']}")
    errors = [f for f in report["findings"] if f["severity"] == "error"]
    for finding in errors[:3]:
        lines.append(f"  cause: {finding['id']}  [{finding['class']}, {finding['confidence']}] at {finding['point']}")
        lines.append(f"         {finding['message']}")
        if finding.get("fix"):
            lines.append(f"    fix: {finding['fix']}")
    if len(errors) > 3:
        lines.append(f"  ... and {len(errors) - 3} more")
    return "\n".join(lines)
