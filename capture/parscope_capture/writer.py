"""Trace directories: values go to disk as they come, and a trace has its name only once it is whole."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
from pathlib import Path
from typing import Any, BinaryIO

import torch


class CaptureError(RuntimeError):
    """What cannot be recorded, and what to do about it."""


_DTYPES: dict[torch.dtype, str] = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
for _name, _code in (("float8_e4m3fn", "F8_E4M3"), ("float8_e5m2", "F8_E5M2")):
    if hasattr(torch, _name):
        _DTYPES[getattr(torch, _name)] = _code

_HEADER_ROOM = 1 << 16  # bytes kept free for the header of a step's file; a larger header costs one copy of the file


def raw_bytes(tensor: torch.Tensor) -> memoryview:
    """The values of a contiguous CPU tensor, not copied; the tensor must outlive what is returned."""
    size = tensor.numel() * tensor.element_size()
    if size == 0:
        return memoryview(b"")
    if tensor.data_ptr() == 0:
        raise CaptureError(f"a tensor of type {type(tensor).__name__} and shape {list(tensor.shape)} holds no values of its own")
    return memoryview((ctypes.c_char * size).from_address(tensor.data_ptr())).cast("B")


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """The values in row-major order, on the CPU, out of autograd's sight."""
    tensor = tensor.detach()
    if tensor.dtype not in _DTYPES:
        tensor = tensor.float()
    return tensor.to("cpu").contiguous()


class StepFile:
    """One step on one rank. Each value is written when it is computed, so memory holds one value, never a step."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._partial = path.with_name(path.name + ".partial")
        self._file: BinaryIO = open(self._partial, "wb")
        self._file.write(b"\0" * (8 + _HEADER_ROOM))
        self._entries: dict[str, dict[str, Any]] = {}
        self.size = 0

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def write(self, name: str, tensor: torch.Tensor) -> None:
        """Stores a value. A name that is there already takes the new value, if that has the same size."""
        values = plain(tensor)
        data = raw_bytes(values)
        entry = {"dtype": _DTYPES[values.dtype], "shape": list(values.shape)}
        old = self._entries.get(name)
        begin = old["data_offsets"][0] if old else self.size
        if old and old["data_offsets"][1] - begin != len(data):
            raise CaptureError(f"{name}: recorded twice in one step, with shapes {old['shape']} and {entry['shape']}")
        if old:
            self._file.seek(8 + _HEADER_ROOM + begin)
        self._file.write(data)
        if old:
            self._file.seek(0, os.SEEK_END)
        else:
            self.size += len(data)
        self._entries[name] = {**entry, "data_offsets": [begin, begin + len(data)]}

    def close(self) -> None:
        """Writes the header and gives the file its name."""
        header = json.dumps(self._entries).encode()
        if len(header) <= _HEADER_ROOM:
            self._file.seek(0)
            self._file.write(_HEADER_ROOM.to_bytes(8, "little") + header.ljust(_HEADER_ROOM))
            self._file.close()
        else:
            self._file.close()
            self._rewrite(header)
        os.replace(self._partial, self.path)

    def _rewrite(self, header: bytes) -> None:
        header = header.ljust(-(-len(header) // 8) * 8)
        whole = self._partial.with_name(self._partial.name + ".long")
        with open(self._partial, "rb") as old, open(whole, "wb") as new:
            new.write(len(header).to_bytes(8, "little") + header)
            old.seek(8 + _HEADER_ROOM)
            shutil.copyfileobj(old, new, 1 << 22)
        os.replace(whole, self._partial)


class TraceDir:
    """A trace under its temporary name OUT.partial, which `finish` turns into OUT. Ranks share the folder."""

    def __init__(self, out: Path, rank: int, overwrite: bool) -> None:
        self.out = out
        self.partial = out.with_name(out.name + ".partial")
        self.rank = rank
        self.steps: list[dict[str, Any]] = []
        taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
        # Only a trace is ever replaced: a folder of other things would be gone.
        if taken and not (overwrite and (out / "trace.json").is_file()):
            hint = "it holds no trace; give another folder" if overwrite else "give another folder, or overwrite=True"
            raise CaptureError(f"{out}: is there already and not empty; {hint}")
        if rank == 0 and self.partial.exists():
            shutil.rmtree(self.partial)

    def open_step(self, step: int) -> StepFile:
        self.partial.mkdir(parents=True, exist_ok=True)
        return StepFile(self.partial / f"step-{step:05}.rank-{self.rank:05}.safetensors")

    def add(self, step: int, file: StepFile) -> None:
        file.close()
        self.steps.append({"step": step, "rank": self.rank, "file": file.path.name})

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """trace.json, in the folder that has no name yet."""
        temporary = self.partial / "trace.json.partial"
        lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in manifest.items()]
        temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        os.replace(temporary, self.partial / "trace.json")

    def finish(self) -> None:
        """Gives the trace its name; one that stood there (overwrite=True) goes first."""
        if self.out.exists():
            old = self.out.with_name(self.out.name + ".old")
            shutil.rmtree(old, ignore_errors=True)
            os.replace(self.out, old)
            os.replace(self.partial, self.out)
            shutil.rmtree(old)
        else:
            os.replace(self.partial, self.out)
