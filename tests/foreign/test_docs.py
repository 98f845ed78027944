"""What README.md and docs/capture.md show is what happens: their Python runs, and their commands print what stands there."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from engines import ROOT, make, parscope, replaced


def blocks(page: str) -> list[tuple[str, str]]:
    return re.findall(r"^```(python|console)\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def check_console(text: str) -> None:
    """`$ parscope ...`, then lines of its output; "..." stands for any number of them."""
    command, *shown = text.splitlines()
    words = shlex.split(command.removeprefix("$ "))
    assert words[0] in ("parscope", "build/parscope")
    code, out, err = parscope(*words[1:])
    assert code in (0, 1), err
    lines, at = out.splitlines(), 0
    for line in shown:
        if line.strip() == "...":
            continue
        assert line.rstrip() in [x.rstrip() for x in lines[at:]], f"{line!r} is not in:\n{out}"
        at = at + [x.rstrip() for x in lines[at:]].index(line.rstrip()) + 1


@pytest.mark.parametrize("page", ["docs/capture.md", "README.md"])
def test_page(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make("qwen2", "float32", tmp_path / "Qwen2-tiny")
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    found = blocks(page)
    assert {kind for kind, _ in found} == {"python", "console"}
    import parscope_capture.pytest as plugin
    from transformers.models.qwen2 import modeling_qwen2

    monkeypatch.setattr(plugin, "_chosen", None)
    monkeypatch.setenv("PARSCOPE", os.environ.get("PARSCOPE", str(ROOT / "build" / "parscope")))
    space: dict[str, Any] = {}
    with replaced(modeling_qwen2, "repeat_kv", modeling_qwen2.repeat_kv):  # a page may patch it
        for kind, text in found:
            if kind == "python":
                exec(compile(text, page, "exec"), space)
            else:
                check_console(text)
    assert sys.modules["parscope_capture"]
