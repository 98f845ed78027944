"""Dense masks in numpy and torch, and what this machine can do at best; one JSON object on stdout, in milliseconds.

usage: other_limits.py ROWS

The mask is that of bench_masks.cpp: a prefix of 48, left padding, causal, segments of uneven length and a generated tail. A name is
missing where its library is.
"""
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy

from clock import best


def segments(n):
    out = numpy.zeros(n, numpy.int32)
    at = i = 0
    while at < n:
        end = min(n, at + 900 + 577 * (i % 5))
        out[at:end] = i
        at, i = end, i + 1
    return out


def dense(lib, n, padding):
    """Broadcast over rows and columns, as such masks are written by hand."""
    index = lib.arange(n)
    of = segments(n) if lib is numpy else lib.from_numpy(segments(n))
    row, column = index[:, None], index[None, :]
    segment = (row >= n - 1000) | (of[:, None] == of[None, :])
    return (column < 48) | ((column <= row) & (column >= padding) & segment)


def main():
    n = int(sys.argv[1])
    rng = numpy.random.default_rng(1)
    a, b = (rng.standard_normal((2048, 2048), numpy.float32) for _ in range(2))
    gemm = best(lambda: a @ b)
    buffer = numpy.empty(n * n, numpy.uint8)
    out = {"gflops": 2 * 2048**3 / gemm / 1e6, "fill": best(lambda: buffer.fill(1)), "numpy_version": numpy.__version__}
    cores = len(os.sched_getaffinity(0))
    big = numpy.ones(2**28, numpy.float32)
    with ThreadPoolExecutor(cores) as threads:  # numpy lets go of the interpreter meanwhile
        out["read_gbs"] = big.nbytes / best(lambda: list(threads.map(numpy.max, numpy.array_split(big, cores)))) / 1e6
    del big, buffer
    libraries = {"numpy": numpy}
    try:
        import torch

        libraries["torch"] = torch
        x, y = torch.from_numpy(a), torch.from_numpy(b)
        out["gflops"] = max(out["gflops"], 2 * 2048**3 / best(lambda: x @ y) / 1e6)
    except ImportError:
        pass
    for name, lib in libraries.items():
        out[f"{name}_build"] = best(lambda lib=lib: dense(lib, n, 1000), 1)
        one, two = dense(lib, n, 1000), dense(lib, n, 1007)
        out[f"{name}_diff"] = best(lambda one=one, two=two: (int((one & ~two).sum()), int((two & ~one).sum())), 1)
    print(json.dumps(out))


main()
