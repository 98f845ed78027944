"""Seconds that another tool takes to compare two .safetensors files of float32 tensors, without its start-up.

usage: other_tools.py numpy.allclose|numpy.load+allclose|polygraphy CANDIDATE EXPECTED

The tensors are mapped, not copied; with `load` they are read into memory, as a loader of safetensors does. bench_diff.cpp calls
this with the Python of PARSCOPE_BENCH_PYTHON, which needs numpy and polygraphy.
"""
import json
import sys
import time

import numpy


def tensors(path, load=False):
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    data = numpy.fromfile(path, numpy.uint8, offset=8 + length) if load else numpy.memmap(path, numpy.uint8, "r", offset=8 + length)
    header.pop("__metadata__", None)
    return {name: data[slice(*t["data_offsets"])].view(numpy.float32) for name, t in header.items()}


def numpy_allclose(a, b):
    return all(numpy.allclose(a[name], b[name], rtol=1e-5, atol=1e-5) for name in b)


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


def main():
    tool = sys.argv[1]
    a, b = (tensors(path, "load" in tool) for path in sys.argv[2:4])
    if tool == "polygraphy":
        print(polygraphy(a, b))
        return
    start = time.perf_counter()
    assert numpy_allclose(a, b)
    print(time.perf_counter() - start)


main()
