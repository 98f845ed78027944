"""Class rope of faults.json, and the cache fault that is one of positions."""
import numpy as np

from faults import edit, fault, hide, override
from files_np import round_bf16


def half(t):
    return t[..., :t.shape[-1] // 2]


def pairs(m, x, cos, sin):
    c, s = half(cos), half(sin)
    a, b = x[..., 0::2], x[..., 1::2]
    r = m.num.r
    return r(r(a * c) - r(b * s)), r(r(b * c) + r(a * s))


@fault("rope-interleaved-vs-half", on=("ps", "qwen3"))
def interleaved(m, v):
    def rotate(x, cos, sin):
        a, b = pairs(m, x, cos, sin)
        return np.stack([a, b], -1).reshape(x.shape)
    m.rotate = rotate


@fault("rope-output-layout-not-restored", on=("ps", "qwen2"))
def layout_not_restored(m, v):
    m.rotate = lambda x, cos, sin: np.concatenate(pairs(m, x, cos, sin), -1)


@fault("rope-low-precision-table", on=("ps", "qwen2"), program="long", variants=("inv_freq-pos-angle", "inv_freq", "cos-sin"))
def low_precision(m, v):
    def tables(old, pos, f, k):
        ct = m.num.ct
        if v == "inv_freq":  # model.to(bf16): the buffer itself
            return old(pos, round_bf16(f), k)
        if v == "cos-sin":
            return tuple(m.num.r(round_bf16(t)) for t in old(pos, f, k))
        a = round_bf16(round_bf16(pos)[..., None] * round_bf16(f))
        a = np.concatenate([a, a], -1)
        return m.num.r(round_bf16(np.cos(a)) * ct(k)), m.num.r(round_bf16(np.sin(a)) * ct(k))
    override(m, "rope_tables", tables)
    if v != "cos-sin":
        edit(m, "model.rotary_emb:inv_freq", round_bf16)


@fault("rope-inv-freq-uninitialised", on=("ps", "qwen2"), variants=("zeros", "tiny", "garbage"), alias=("rope-not-applied@inner", "rope-not-applied@hooks", "rope-not-applied@layers"))
def inv_freq_uninit(m, v):
    f, k = m.inv_freq()
    bad = {"zeros": 0 * f, "tiny": 0 * f + m.num.ct(6.9e-18), "garbage": np.abs(m.rng.normal(0, 2, f.shape)).astype(f.dtype)}[v]
    m.inv_freq = lambda: (bad, k)


@fault("rope-theta-default", on=("ps-theta", "qwen2-theta"))
def theta_default(m, v):
    m.c.theta = 10000.0


def shift_positions(m, fn):
    """fn(positions [1 or R, S], S) -> positions."""
    override(m, "positions", lambda old, st, S: fn(old(st, S), S))


@fault("rope-position-offset-by-prefix", on=("ps", "xb"))
def offset_prefix(m, v):
    shift_positions(m, lambda p, S: p + m.c.T)


@fault("rope-decode-position-restarts", on=("ps", "qwen2"))
def restarts(m, v):
    shift_positions(m, lambda p, S: np.arange(S)[None] if m.past else p)


@fault("rope-decode-off-by-one", on=("ps", "qwen2"), variants=("all", "upper-layers"))
def off_by_one(m, v):
    if v == "all":
        shift_positions(m, lambda p, S: p + 1 if m.past else p)
        return

    def tables(old, i, cos, sin):
        return m.later if i and m.past else (cos, sin)

    def rope_tables(old, pos, f, k):
        m.later = old(pos + 1, f, k)
        return old(pos, f, k)
    override(m, "rope_tables", rope_tables)
    override(m, "layer_tables", tables)


@fault("rope-ragged-batch-scalar-past", on=("ps", "xb"))
def scalar_past(m, v):
    shift_positions(m, lambda p, S: np.arange(m.past, m.past + S)[None])


@fault("rope-scaling-ignored", on=("ps-linear", "qwen2-llama3", "ps-yarn", "llama-llama3"), alias=("weights-config-field-dropped",))
def scaling_ignored(m, v):
    m.c.scaling = None


@fault("rope-yarn-mscale", on=("ps-yarn",), variants=("missing", "squared", "q-only"))
def mscale(m, v):
    f, k = m.inv_freq()
    if v != "q-only":
        m.inv_freq = lambda: (f, 1.0 if v == "missing" else k * k)
        return

    def rope(old, i, which, x, cos, sin):
        if which == "q":
            return old(i, which, x, cos, sin)
        return old(i, which, x, *m.plain)

    def tables(old, pos, f, k):
        m.plain = old(pos, f, 1.0)
        return old(pos, f, k)
    override(m, "rope_tables", tables)
    override(m, "rope", rope)


@fault("rope-not-applied", on=("ps", "qwen3"))
def not_applied(m, v):
    m.rope = lambda i, which, x, cos, sin: x


@fault("rope-sign", on=("ps", "qwen2"))
def sign(m, v):
    override(m, "rotate", lambda old, x, cos, sin: old(x, cos, -sin))


@fault("rope-q-only", on=("ps", "qwen2"))
def q_only(m, v):
    override(m, "rope", lambda old, i, which, *a: old(i, which, *a) if which == "q" else a[0])


@fault("rope-on-v", on=("ps", "qwen2"))
def on_v(m, v):
    def layer_tables(old, i, cos, sin):
        m.now = cos[:, None], sin[:, None]
        return cos, sin
    override(m, "layer_tables", layer_tables)
    override(m, "append", lambda old, i, k, val: old(i, k, m.rotate(val, *m.now)))


@fault("rope-applied-twice-to-cache", on=("ps", "qwen2"), variants=("tokens", "all-columns"))
def twice(m, v):
    def cached(old, i):
        c = old(i)
        if c is None or m.past == 0:
            return c
        skip = m.c.T if v == "tokens" else 0
        f, k = m.inv_freq()
        cos, sin = m.rope_tables(np.arange(c[0].shape[2] - skip)[None], f, k)
        return np.concatenate([c[0][:, :, :skip], m.rotate(c[0][:, :, skip:], cos[:, None], sin[:, None])], 2), c[1]
    override(m, "cached", cached)


@fault("rope-replica-flag", on=("xa-rr",), variants=("skipped",))
def replica_skipped(m, v):
    m.replica_rope = lambda which, x, tables: x


@fault("rope-replica-flag", on=("xa",), variants=("applied-cross", "applied-self"))
def replica_applied(m, v):
    if v == "applied-cross":
        def cross(old, i, x, tables):
            return old(i, x, m.replica_tables())
        override(m, "cross_attention", cross)
        hide(m, "model.layers.N.cross_replica_attn:[qk]_rope")
        return

    def rope(old, i, which, x, cos, sin):  # the literal first_point: self_attn:q_rope, turned by p * inv_freq
        f, k = m.inv_freq()
        p = np.repeat(np.arange(m.c.P), m.B)[:, None]
        c, s = m.rope_tables(p, f, k)
        return m.rotate(old(i, which, x, cos, sin), c[:, None], s[:, None])
    override(m, "rope", rope)


@fault("rope-after-eviction-phase", on=("ps", "qwen2"), program="decode")
def eviction(m, v):
    """At step 2 the two oldest tokens leave the cache, and positions come from its length."""
    drop, T = 2, m.c.T

    def cached(old, i):
        c = old(i)
        return c if m.step != 2 else tuple(np.concatenate([t[:, :, :T], t[:, :, T + drop:]], 2) for t in c)
    override(m, "cached", cached)
    shift_positions(m, lambda p, S: p - drop if m.step >= 2 else p)
    override(m, "keep", lambda old, *a: np.delete(old(*a), [T, T + 1], -1) if m.step >= 2 else old(*a))


@fault("cache-length-includes-prefix", on=("ps", "xb"), alias=("rope-position-offset-by-prefix",))
def length_includes(m, v):
    shift_positions(m, lambda p, S: p + m.c.T)
    m.causal = lambda S, L: (np.arange(L + S)[None] <= L + m.c.T + np.arange(S)[:, None])[None, None]
