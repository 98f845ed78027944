"""Runtime faults that a trace can show (kind 'optional'), faults that are in no list (kind 'invented': must come out unnamed at
the right point) and benign differences (kind 'benign': must be no error)."""
import numpy as np

from faults import edit, fault, hide, layers, override
from faults_rope import pairs, shift_positions

# ---------------------------------------------------------------------------------------------------------- runtime


@fault("runtime-cuda-graph-stale", on=("ps", "qwen2"), program="decode", kind="optional")
def graph_stale(m, v):
    def embed(old, ids):
        m.captured = ids if m.step == 1 else getattr(m, "captured", ids)
        return old(m.captured if m.step >= 1 else ids)
    override(m, "embed", embed)


@fault("runtime-uninitialised-padding", on=("ps", "qwen2"), kind="optional")
def uninit_rows(m, v):
    def fn(x):
        x = x.copy()
        x[0, -1] = np.nan
        return x
    edit(m, "model.layers.1.mlp.down_proj", fn)


@fault("runtime-capture-aliasing", on=("ps", "qwen2"), kind="optional")
def aliasing(m, v):
    def fn(x):  # the hook kept a reference; x += o ran in place on it
        m.points[f"model.layers.{m.alias}.self_attn.o_proj"] = x
        return x
    for i in range(m.c.L):
        def at(x, i=i):
            m.alias = i
            return fn(x)
        edit(m, f"model.layers.{i}:attn_residual", at)


@fault("runtime-metric-lies", on=("ps",), kind="optional")
def doubled(m, v):
    def run(old, steps):
        out = old(steps)
        return [({k: (2 * a if a.dtype.kind == "f" else a) for k, a in p.items()}, t) for p, t in out]
    override(m, "run", run)


@fault("runtime-input-truncated", on=("ps", "qwen2"), kind="optional")
def truncated(m, v):
    def forward(old, st):
        if m.step:
            return
        old({**st, **{k: np.asarray(st[k])[:, :6] for k in ("input_ids", "attention_mask", "position_ids")}})
    override(m, "forward", forward)


@fault("runtime-race", on=("qwen2",), program="decode", kind="optional")
def race(m, v):
    def fn(x):
        x = x.copy()
        if m.step:
            x[..., 8:16] = m.stale[:, -1:, 8:16]
        m.stale = x
        return x
    edit(m, "model.layers.0.mlp.down_proj", fn)


# --------------------------------------------------------------------------------------------------------- invented


def invented(name, on=("ps", "qwen2")):
    return fault("invented-" + name, on=on, kind="invented")


@invented("gemm-tile-dropped")
def tile_dropped(m, v):
    """The last block of 16 of the contraction is missing for 16 of the outputs."""
    k = "model.layers.1.mlp.down_proj.weight"
    m.w[k] = m.w[k].copy()
    m.w[k][8:24, -16:] = 0


@invented("head-sign")
def head_sign(m, v):
    d = m.c.d

    def fn(x):
        x = x.copy()
        x[..., d:2 * d] *= -1
        return x
    edit(m, "model.layers.1.self_attn:context", fn)


@invented("up-rows-rolled")
def rolled(m, v):
    k = "model.layers.0.mlp.up_proj.weight"
    m.w[k] = np.roll(m.w[k], 1, 0)


@invented("residual-from-embed")
def from_embed(m, v):
    override(m, "residual", lambda old, i, which, x, y, normed: old(i, which, m.x0 if i == 1 and which == "attn" else x, y, normed))


@invented("noise-one-layer")
def noise(m, v):
    edit(m, "model.layers.0.self_attn.o_proj", lambda x: m.num.r(x + m.rng.normal(0, 0.05, x.shape).astype(x.dtype)))


@invented("clamped-activations")
def clamped(m, v):
    edit(m, "model.layers.N.mlp:act", lambda x: np.clip(x, -0.3, 0.3).astype(x.dtype))


@invented("aggregate-input-reversed", on=("ps", "xa"))
def reversed_input(m, v):
    override(m, "aggregate_input", lambda old, y: np.ascontiguousarray(old(y[..., ::-1])))


@invented("cosine-cubed")
def cubed(m, v):
    override(m, "rotate", lambda old, x, cos, sin: old(x, m.num.r(cos**3), sin))


@invented("temperature-one-head")
def temperature(m, v):
    def probs(old, i, s, keep):
        s = s.copy()
        s[:, 2] *= m.num.ct(1.3)
        return old(i, s, keep)
    override(m, "probs", probs)


@invented("first-key-unseen-by-one-head")
def first_key(m, v):
    def context(old, i, p, val):
        p = p.copy()
        p[:, 1, :, m.c.T:m.c.T + 1] = 0
        return old(i, p, val)
    override(m, "context", context)


@invented("norm-mean-abs")
def mean_abs(m, v):
    def unit(old, name, x, eps=None):
        return x / (np.abs(x).mean(-1, keepdims=True) + m.num.ct(m.c.eps))
    override(m, "unit", unit)


@invented("layer-output-damped")
def damped(m, v):
    edit(m, "model.layers.1", lambda x: m.num.r(x * m.num.ct(0.9)))


@invented("value-channels-reversed")
def reversed_values(m, v):
    override(m, "append", lambda old, i, k, val: old(i, k, np.ascontiguousarray(val[..., ::-1])))


@invented("head-rows-zero")
def zero_rows(m, v):
    m.w["lm_head.weight"] = m.w["lm_head.weight"].copy()
    m.w["lm_head.weight"][40:48] = 0


@invented("keys-coarse")
def coarse(m, v):
    """Keys kept with 3 bits of mantissa."""
    def cut(x):
        e = np.exp2(np.floor(np.log2(np.maximum(np.abs(x), 1e-20))) - 3)
        return (np.round(x / e) * e).astype(x.dtype)
    override(m, "append", lambda old, i, k, val: old(i, cut(k), val))


@invented("rotary-half-the-head")
def half_rotary(m, v):
    def rotate(old, x, cos, sin):
        n = 2 * (x.shape[-1] // 4)
        a, b = x[..., :n], x[..., n:]
        h = cos.shape[-1] // 2
        idx = np.r_[0:n // 2, h:h + n // 2]
        return np.concatenate([old(a, cos[..., idx], sin[..., idx]), b], -1)
    override(m, "rotate", rotate)


# ----------------------------------------------------------------------------------------------------------- benign


def benign(name, on, **k):
    return fault("benign-" + name, on=on, kind="benign", **k)


@benign("common-rope-shift", ("qwen2", "llama"))
def common_shift(m, v):
    shift_positions(m, lambda p, S: p + 5)


@benign("replica-permutation", ("ps",))
def replica_permutation(m, v):
    perm = np.roll(np.arange(m.c.P), 1)
    for k in list(m.w):
        if ".prefix_" in k:
            m.w[k] = m.w[k][perm]
        elif k == "model.aggregate_layer.0.weight":
            w = m.w[k]
            m.w[k] = w.reshape(len(w), -1, m.c.P)[..., perm].reshape(w.shape)
        elif k.startswith("model.aggregate_layer.2."):
            m.w[k] = m.w[k][perm]


@benign("qk-rows-permuted", ("ps-t0", "qwen2"))
def qk_permuted(m, v):
    """Rows of q and k go from halves to pairs, and the rotation is of pairs."""
    d = m.c.d
    for p in ("q_proj", "k_proj"):
        for what in ("weight", "bias"):
            for k in layers(m, "self_attn." + p, what):
                w = m.w[k]
                m.w[k] = w.reshape(-1, 2, d // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)

    def rotate(x, cos, sin):
        a, b = pairs(m, x, cos, sin)
        return np.stack([a, b], -1).reshape(x.shape)
    m.rotate = rotate


@benign("mask-row-constant", ("ps", "qwen2"))
def row_constant(m, v):
    override(m, "add_mask", lambda old, i, s, keep: old(i, m.num.r(s + m.num.ct(1)), keep))


@benign("mask-fill", ("ps", "qwen2"), variants=("neginf", "1e38"))
def fill(m, v):
    if v == "neginf":
        m.add_mask = lambda i, s, keep: np.where(keep | ~keep.any(-1, keepdims=True), s, -np.inf)
    else:
        m.add_mask = lambda i, s, keep: m.num.r(s + np.where(keep, 0, -1e38).astype(m.num.ct))


@benign("k-bias-without-rope", ("qwen2",), program="samepos")
def k_bias_no_rope(m, v):
    """All positions are 0, so the rotation is the identity, and there is no prefix."""
    for k in layers(m, "self_attn.k_proj", "bias"):
        del m.w[k]


@benign("single-key-rows", ("qwen2",), program="one")
def single_key(m, v):
    """One token, no prefix: its scores may have any scale. Only the first step is written."""
    s = m.c.d**-0.5
    m.scale = lambda i: 0.5 * s if m.past == 0 else s


@benign("masked-row-values", ("qwen2", "ps-t0"), variants=("zero", "mean-of-real"))
def masked_rows(m, v):
    def probs(old, i, s, keep):
        p = old(i, s, keep)
        none = ~keep.any(-1, keepdims=True)
        if v == "zero":
            return np.where(none, 0, p).astype(p.dtype)
        tri = np.broadcast_to(np.arange(s.shape[-1]) < s.shape[-1] - 1, p.shape)
        return np.where(none, m.num.r(tri / tri.sum(-1, keepdims=True)), p).astype(p.dtype)
    override(m, "probs", probs)


@benign("unit-norm-twice", ("ps", "qwen2"), dtypes=("f32",))
def unit_twice(m, v):
    override(m, "unit", lambda old, name, x, eps=None: old(name, old(name, x, eps), eps))


@benign("reduction-order", ("ps", "qwen2"), variants=("reversed", "blocks"))
def reduction(m, v):
    def matmul(old, a, b):
        n = a.shape[-1]
        if v == "reversed":
            return old(np.ascontiguousarray(a[..., ::-1]), np.ascontiguousarray(b[..., ::-1, :]))
        parts = [old(a[..., j:j + 8], b[..., j:j + 8, :]) for j in range(0, n, 8)]
        return sum(parts[1:], parts[0])
    override(m, "matmul", matmul)


@benign("tf32", ("ps", "qwen2"), dtypes=("f32",), alias=("numeric-tf32",))
def tf32_benign(m, v):
    from faults_attention import tf32
    tf32(m, v)


@benign("qk-norm-after-rope-flat-weights", ("qwen3-flatnorm",))
def qk_flat(m, v):
    from faults_attention import qknorm_after
    qknorm_after(m, v)
    hide(m, "model.layers.N.self_attn.[qk]_norm")


@benign("equal-prefixes-other-weights", ("ps-sameprefix", "ps-t0"))
def equal_prefixes(m, v):
    """All replicas are equal, so any weights of sum 1 give the same state."""
    def weights(old, a):
        w = np.arange(1, m.c.P + 1).astype(m.num.ct)
        return np.broadcast_to(w / w.sum(), a.shape).astype(m.num.ct)
    override(m, "aggregate_weights", weights)
