"""What trace.json says of a model and its weights."""

from __future__ import annotations

import json
import zlib
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import nn

from . import backends
from .names import canonical
from .writer import plain, raw_bytes

VERSION = "0.1.0"
_CHECKSUM_LIMIT = 2 << 30  # bytes of weights that are summed up without being asked to


def of_model(model: nn.Module, config: Any) -> dict[str, Any]:
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    return {
        "format": "parscope-trace/1",
        "producer": _producer(),
        "model": _config_json(config),
        "dtype": backends.run_dtype(model),
        "device": str(device),
    }


def weight_sums(model: nn.Module, decoder: str | None, wanted: bool | None) -> dict[str, Any]:
    """The CRC of each weight; of models above the limit only where it is asked for."""
    parameters = list(model.named_parameters(remove_duplicate=False))
    size = sum(p.numel() * p.element_size() for _, p in parameters)
    if wanted is False or (wanted is None and size > _CHECKSUM_LIMIT):
        return {}
    found = {}
    for path, parameter in parameters:
        values = plain(parameter)
        found[canonical(path, decoder)] = {
            "dtype": str(parameter.dtype).removeprefix("torch."),
            "shape": list(parameter.shape),
            "crc32": f"{zlib.crc32(raw_bytes(values)):08x}",
        }
    return found


def _config_json(config: Any) -> dict[str, Any] | None:
    """The model's config.json, as its own code would write it."""
    if config is None:
        return None
    if hasattr(config, "to_json_string"):
        written: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
        return written
    fields = config if isinstance(config, dict) else vars(config)
    return {k: v for k, v in fields.items() if isinstance(v, (str, int, float, bool, list, dict, type(None)))}


def _producer() -> str:
    parts = [f"parscope_capture {VERSION}"]
    try:
        parts.append(f"transformers {version('transformers')}")
    except PackageNotFoundError:
        pass
    return " / ".join([*parts, f"torch {torch.__version__}"])
