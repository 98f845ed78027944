"""Class cache of faults.json, and the prefix, which lives in the cache."""
import numpy as np

from faults import Columns, fault, override, rounded
from faults_rope import shift_positions


@fault("cache-nan-tail-times-zero", on=("ps", "qwen2"))
def nan_tail(m, v):
    def context(old, i, p, val):
        tail = np.full_like(val[:, :, :1], np.nan)
        return old(i, np.concatenate([p, np.zeros_like(p[..., :1])], -1), np.concatenate([val, tail], 2))
    override(m, "context", context)


@fault("cache-stale-block-or-hash", on=("ps", "qwen2"), variants=("k", "kv"))
def stale(m, v):
    def cached(old, i):
        c = old(i)
        if m.step != 1:
            return c
        out, at = [t.copy() for t in c], 4 * ((m.c.T + m.past) // 4 - 1)
        for n in range(len(v)):
            out[n][:m.B, :, at:at + 4] = np.roll(c[n][:m.B, :, at:at + 4], 1, 0)  # one block of 4 slots belongs to another request
        return tuple(out)
    override(m, "cached", cached)


@fault("cache-hole-or-slot-off-by-one", on=("ps", "qwen2"), variants=("hole", "overwritten"))
def hole(m, v):
    def append(old, i, k, val):
        past = m.cached(i)
        if m.step != 1:
            return old(i, k, val)
        if v == "hole":
            return tuple(np.concatenate([p, 0 * p[:, :, :1], n], 2) for p, n in zip(past, (k, val)))
        return tuple(np.concatenate([p[:, :, :-1], n], 2) for p, n in zip(past, (k, val)))
    override(m, "append", append)
    cols = Columns(m)
    cols.columns = lambda past, new: np.concatenate([past, new] if m.step != 1 else [past, [-1], new] if v == "hole" else [past[:-1], new])


@fault("cache-append-twice", on=("ps", "qwen2"), program="decode")
def append_twice(m, v):
    def append(old, i, k, val):
        return old(i, k, val) if m.past == 0 else old(i, np.concatenate([k, k], 2), np.concatenate([val, val], 2))
    override(m, "append", append)
    cols = Columns(m)
    cols.columns = lambda past, new: np.concatenate([past, new] + ([new] if m.past else []))


@fault("cache-prefix-never-prepended", on=("ps", "xb"), variants=("mask-right", "mask-sliced"))
def never_prepended(m, v):
    override(m, "cached", lambda old, i: m.cache[i])
    override(m, "keep", lambda old, st, S, window=None:
             old(st, S, window)[..., m.c.T:] if v == "mask-right" else old(st, S, window)[..., :m.past + S])


@fault("cache-prefix-zero-placeholder", on=("ps", "xb"))
def zero_placeholder(m, v):
    m.expand_prefix = lambda x: np.repeat(0 * x, m.B, 0)


@fault("cache-beam-reorder-skipped", on=("ps", "qwen2"), program="beam")
def reorder_skipped(m, v):
    m.reorder = lambda idx: None


@fault("cache-beam-reorder-no-replicas", on=("ps",), program="beam", variants=("replica-0-rows",), accept_unnamed=True)
def reorder_no_replicas(m, v):
    """An exception as a rule; here the [b] rows are broadcast over the replicas, which all get the rows of replica 0."""
    def reorder(idx):
        m.cache = [tuple(np.concatenate([t[idx]] * m.c.P) for t in c) for c in m.cache]
    m.reorder = reorder


@fault("cache-layout-transposed", on=("ps", "qwen2"))
def transposed(m, v):
    """The buffer is kept right, and read as if its axes were the other way round."""
    store = {}

    def append(old, i, k, val):
        store[i] = old(i, k, val)
        return tuple(np.ascontiguousarray(np.swapaxes(t, 1, 2)).reshape(t.shape) for t in store[i])
    override(m, "append", append)
    override(m, "cached", lambda old, i: store.get(i) or old(i))


@fault("cache-parameter-aliased", on=("ps", "xb"))
def aliased(m, v):
    """An earlier call has left its keys and values in the prefix that the cache hands out."""
    S = 3
    owner = type(m)(m.c.raw, m.w, m.num.name)
    owner.run([{"op": "forward", "input_ids": m.rng.integers(1, m.c.V, (1, S))}])
    stale = owner.cache  # rows [P, K, T+S, d]: the parameter after that call

    def cached(old, i):
        return tuple(np.repeat(t, m.B, 0) for t in stale[i]) if m.cache[i] is None else m.cache[i]
    override(m, "cached", cached)
    cols = Columns(m)
    cols.index = np.concatenate([cols.index, [-1] * S])
    cols.columns = lambda past, new: np.concatenate([past, new])


@fault("cache-zero-test-length", on=("llama-zeroembed",), program="zerotoken")
def zero_test(m, v):
    """The length of a cache is the index of its first all-zero key."""
    def fix(p, S):
        if not m.past:
            return p
        zero = (m.cache[0][0] == 0).all((1, 3))  # [R, T]
        first = np.where(zero.any(1), zero.argmax(1), m.past)
        return first[:, None] + np.arange(S)[None]
    shift_positions(m, fix)


@fault("replica-prefix-order", on=("ps",))
def prefix_order(m, v):
    m.expand_prefix = lambda x: np.concatenate([x] * m.B)


@fault("weights-prefix-uninitialised", on=("ps", "xb"), variants=("random", "nan", "denormal"), alias=("aggregation-nondeterministic", "cache-prefix-zero-placeholder@denormal"))
def prefix_uninit(m, v):
    for name in [k for k in m.w if ".prefix_" in k]:
        x = m.w[name]
        if v == "random":
            bits = m.rng.integers(0, 2**32, x.shape, dtype=np.uint32)
            bad = np.clip(np.nan_to_num(bits.view(np.float32)), -4, 4)
        elif v == "nan":
            bad = np.full_like(x, np.nan)
        else:
            bad = m.rng.uniform(1e-38, 1e-36, x.shape)
        m.w[name] = rounded(m, bad)


@fault("aggregation-nondeterministic", on=("ps",), alias=("weights-prefix-uninitialised",))
def nondeterministic(m, v):
    for name in [k for k in m.w if ".prefix_" in k]:
        m.w[name] = rounded(m, m.rng.normal(0, 3, m.w[name].shape))
