"""Runs the engines of .ci/foreign.txt: `./dev foreign -m pytest tests/foreign`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from engines import make  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(family, dtype) -> (model, folder); each is made once."""
    made: dict[tuple[str, str], tuple[Any, Path]] = {}

    def get(family: str, dtype: str) -> tuple[Any, Path]:
        if (family, dtype) not in made:
            folder = tmp_path_factory.mktemp(f"{family}-{dtype}")
            made[family, dtype] = (make(family, dtype, folder), folder)
        return made[family, dtype]

    return get
