"""More mistakes patched into transformers: each is named, at the op where it was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from engines import Engine
from faults import FIRST_FIVE, Fault, cases, expect_named


@pytest.mark.parametrize(("fault", "engine"), cases(lambda fault: fault.id not in FIRST_FIVE))
def test_patched(models: Any, tmp_path: Path, fault: Fault, engine: Engine) -> None:
    expect_named(models, tmp_path, fault, engine)
