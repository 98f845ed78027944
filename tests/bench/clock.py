"""The least time that some work took, for the scripts beside this file."""
import time


def best(work, times=3):
    """Milliseconds of the quickest of so many runs."""
    out = 1e9
    for _ in range(times):
        start = time.perf_counter()
        work()
        out = min(out, (time.perf_counter() - start) * 1e3)
    return out
