"""Seconds that another tool takes to compare two .safetensors files of float32 tensors, without its start-up.

usage: other_tools.py numpy.allclose|numpy.load+allclose|torch.testing|polygraphy|msprobe CANDIDATE EXPECTED

The tensors are mapped, not copied; with `load` they are read into memory, as a loader of safetensors does. msprobe reads its own dumps
only: they are written first, outside of the time. bench_diff.cpp calls this with the Python of PARSCOPE_BENCH_PYTHON, which needs
numpy, and torch, polygraphy, msprobe for the tools of those names (./dev bench --peers).
"""
import json
import os
import sys
import tempfile
import time
import warnings

import numpy


def tensors(path, load=False):
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    data = numpy.fromfile(path, numpy.uint8, offset=8 + length) if load else numpy.memmap(path, numpy.uint8, "r", offset=8 + length)
    header.pop("__metadata__", None)
    return {name: data[slice(*t["data_offsets"])].view(numpy.float32) for name, t in header.items()}


def numpy_allclose(a, b):
    start = time.perf_counter()
    assert all(numpy.allclose(a[name], b[name], rtol=1e-5, atol=1e-5) for name in b)
    return time.perf_counter() - start


def torch_testing(a, b):
    import torch

    warnings.simplefilter("ignore")  # that a mapped file cannot be written to
    pairs = [(torch.from_numpy(a[name]), torch.from_numpy(b[name])) for name in b]
    start = time.perf_counter()
    for candidate, expected in pairs:
        torch.testing.assert_close(candidate, expected, rtol=1e-5, atol=1e-5)
    return time.perf_counter() - start


def polygraphy(a, b):
    from polygraphy.comparator import CompareFunc, IterationResult
    from polygraphy.logger import G_LOGGER

    G_LOGGER.module_severity = G_LOGGER.CRITICAL
    compare = CompareFunc.simple(rtol=1e-5, atol=1e-5)
    sides = IterationResult(a, runner_name="candidate"), IterationResult(b, runner_name="expected")
    start = time.perf_counter()
    same = compare(*sides)
    assert all(bool(match) for match in same.values())
    return time.perf_counter() - start


def msprobe_dump(folder, values):
    """What its PrecisionDebugger leaves of one step at level L0: a file a tensor, and dump.json with their statistics."""
    import torch

    os.makedirs(f"{folder}/dump_tensor_data")
    modules = {}
    for i, value in enumerate(values.values()):
        name = f"Module.layer{i}.Linear.forward.0"
        x = torch.from_numpy(numpy.array(value))
        torch.save(x, f"{folder}/dump_tensor_data/{name}.output.0.pt")
        output = {"type": "torch.Tensor", "dtype": "torch.float32", "shape": list(x.shape), "Max": x.max().item(), "Min": x.min().item(),
                  "Mean": x.mean().item(), "Norm": x.norm().item(), "requires_grad": False, "data_name": f"{name}.output.0.pt"}
        modules[name] = {"input_args": [], "input_kwargs": {}, "output": [output]}
    dump = {"task": "tensor", "level": "L0", "framework": "pytorch", "dump_data_dir": f"{folder}/dump_tensor_data", "data": modules}
    with open(f"{folder}/dump.json", "w", opener=lambda path, flags: os.open(path, flags, 0o640), encoding="utf-8") as file:
        json.dump(dump, file)
    return f"{folder}/dump.json"


def msprobe(a, b):
    from msprobe.pytorch.compare.pt_compare import pt_compare

    with tempfile.TemporaryDirectory() as folder:
        paths = {"npu_path": msprobe_dump(f"{folder}/a", a), "bench_path": msprobe_dump(f"{folder}/b", b), "is_print_compare_log": False}
        os.mkdir(f"{folder}/out")
        start = time.perf_counter()
        pt_compare(paths, f"{folder}/out", fuzzy_match=False, xlsx=False)
        taken = time.perf_counter() - start
        (result,) = os.listdir(f"{folder}/out")
        with open(f"{folder}/out/{result}", encoding="utf-8") as file:
            assert len(file.read().splitlines()) == 1 + len(a), "msprobe compared fewer tensors than there are"
    return taken


TOOLS = {"numpy.allclose": numpy_allclose, "torch.testing": torch_testing, "polygraphy": polygraphy, "msprobe": msprobe}


def main():
    tool = sys.argv[1]
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what tools print is no answer
    start = time.perf_counter()
    if tool == "numpy.load+allclose":
        numpy_allclose(*(tensors(path, load=True) for path in sys.argv[2:4]))
        seconds = time.perf_counter() - start
    else:
        seconds = TOOLS[tool](*(tensors(path) for path in sys.argv[2:4]))
    print(seconds, file=told, flush=True)


if __name__ == "__main__":  # msprobe's workers import this file again
    main()
