"""Classes attention, norm, aggregation, replica and numeric of faults.json."""
import numpy as np

from faults import edit, fault, hide, layers, override, rounded
from files_np import round_bf16


@fault("attention-gqa-repeat-vs-interleave", on=("ps", "qwen2"))
def gqa_tile(m, v):
    m.expand_kv = lambda i, x: np.concatenate([x] * (m.c.H // m.c.K), 1)


@fault("attention-gqa-repeat-vs-interleave", on=("xa", "xa-rr"), variants=("cross",))
def gqa_tile_cross(m, v):
    m.expand_cross = lambda i, x: np.concatenate([x] * (m.c.H // m.c.K), 2)


@fault("attention-gqa-wrong-index", on=("ps", "qwen2"), variants=("head-0", "divisor"))
def gqa_wrong(m, v):
    h = np.arange(m.c.H)
    idx = 0 * h if v == "head-0" else np.minimum(h // (m.c.H // m.c.K + 1), m.c.K - 1)
    m.expand_kv = lambda i, x: x[:, idx]


@fault("attention-scale-wrong", on=("ps-wide", "qwen2"), variants=("hidden", "one", "inverse", "twice"))
def scale_wrong(m, v):
    s = {"hidden": m.c.h**-0.5, "one": 1.0, "inverse": 1 / m.c.d, "twice": m.c.d**-1.0}[v]
    m.scale = lambda i: s


@fault("attention-dropout-in-eval", on=("ps", "qwen2"))
def dropout(m, v):
    edit(m, "model.layers.N.self_attn:probs", lambda p: m.num.r(p * (m.rng.random(p.shape) >= 0.1) / m.num.ct(0.9)))


@fault("attention-noncontiguous-stride", on=("ps", "qwen2"), variants=("o_proj", "q_rope"))
def stride(m, v):
    if v == "o_proj":
        def linear(old, name, x):
            if name.endswith("self_attn.o_proj"):
                R, S, _ = x.shape
                x = np.ascontiguousarray(np.swapaxes(m.heads(x, m.c.H), 1, 2)).reshape(R, S, -1)
            return old(name, x)
        override(m, "linear", linear)
        return

    def rope(old, i, which, x, cos, sin):
        return old(i, which, np.ascontiguousarray(np.swapaxes(x, 1, 2)).reshape(x.shape) if which == "q" else x, cos, sin)
    override(m, "rope", rope)


@fault("attention-replica-concat-on-features", on=("ps",))
def concat_features(m, v):
    """The scores of one joined head of size P*d: the sum over the replicas, by sqrt(P*d); every replica gets the same."""
    def scores(old, i, q, k):
        s = old(i, q, k)
        total = s.reshape(m.c.P, m.B, *s.shape[1:]).sum(0) / m.num.ct(m.c.P**0.5)
        return m.num.r(np.concatenate([total] * m.c.P))
    override(m, "scores", scores)


@fault("swap-kv", on=("ps", "qwen2"))
def swap_kv(m, v):
    for what in ("weight", "bias"):
        for k, val in zip(layers(m, "self_attn.k_proj", what), layers(m, "self_attn.v_proj", what)):
            m.w[k], m.w[val] = m.w[val], m.w[k]


@fault("head-perm", on=("ps", "qwen2"), variants=("rolled", "random"), alias=("tp-rank-swap-o",))
def head_perm(m, v):
    perm = np.roll(np.arange(m.c.H), 1) if v == "rolled" else m.rng.permutation(m.c.H)

    def linear(old, name, x):
        if name.endswith("self_attn.o_proj"):
            x = m.heads(x, m.c.H)[:, :, perm].reshape(x.shape)
        return old(name, x)
    override(m, "linear", linear)


# ------------------------------------------------------------------------------------------------------------- norm


@fault("norm-eps-wrong", on=("ps", "qwen2-eps5", "llama"), alias=("weights-config-field-dropped",))
def eps_wrong(m, v):
    m.c.eps = 1e-5 if m.c.eps == 1e-6 else 1e-6


@fault("norm-gain-plus-one", on=("ps", "qwen2"))
def gain_plus_one(m, v):
    def rms(old, name, x, eps=None):
        return m.num.r(m.num.r(m.w[name + ".weight"] + 1) * m.num.r(m.unit(name, x, eps)))
    override(m, "rms", rms)


@fault("norm-inplace-residual-alias", on=("ps", "qwen2"), variants=("attn", "both"))
def alias_residual(m, v):
    def residual(old, i, which, x, y, normed):
        return old(i, which, normed if which == "attn" or v == "both" else x, y, normed)
    override(m, "residual", residual)


@fault("norm-final-missing-or-twice", on=("ps", "qwen2"), variants=("missing", "twice"))
def final_norm(m, v):
    override(m, "final_norm", lambda old, x: x if v == "missing" else old(old(x)))


@fault("norm-fp16-overflow", on=("ps-massive", "qwen2-massive"), dtypes=("f32", "bf16", "f16"))
def norm_f16(m, v):
    def unit(old, name, x, eps=None):
        with np.errstate(over="ignore"):
            ms = (x.astype(np.float16) ** 2).astype(np.float32).mean(-1, keepdims=True).astype(np.float16).astype(np.float32)
        return x / np.sqrt(ms + np.float32(m.c.eps))
    override(m, "unit", unit)


@fault("norm-qk-norm-shape", on=("qwen3",), variants=("all-heads", "missing"))
def qk_shape(m, v):
    def rms(old, name, x, eps=None):
        if not name.endswith(("q_norm", "k_norm")):
            return old(name, x, eps)
        if v == "missing":
            return x
        flat = m.unit(name, x.reshape(*x.shape[:2], -1)).reshape(x.shape)
        return m.num.r(m.w[name + ".weight"] * m.num.r(flat))
    override(m, "rms", rms)


@fault("norm2-uses-n1", on=("ps", "qwen2"))
def norm2_n1(m, v):
    override(m, "rms", lambda old, name, x, eps=None: old(name.replace("post_attention_layernorm", "input_layernorm"), x, eps))


@fault("qknorm-after-rope", on=("qwen3",))
def qknorm_after(m, v):
    def both(i, q, k, cos, sin):
        n, out = f"model.layers.{i}.self_attn.", []
        for which, x in (("q", q), ("k", k)):
            x = m.rope(i, which, np.swapaxes(x, 1, 2), cos, sin)
            y = m.tap(f"{n}{which}_norm", m.rms(f"{n}{which}_norm", np.swapaxes(x, 1, 2)))
            out.append(np.swapaxes(y, 1, 2))
        return out
    m.norm_and_rope = both


# ------------------------------------------------------------------------------------------------------ aggregation


@fault("aggregation-weights-not-normalised", on=("ps", "xa"), variants=("smoothing-not-divided", "raw-logits"))
def not_normalised(m, v):
    if v == "raw-logits":
        m.aggregate_weights = lambda a: a.astype(m.num.ct)
    else:
        m.smoothed = lambda w: w * m.num.ct(1 - m.c.smooth) + m.num.ct(m.c.smooth)


@fault("agg-mean", on=("ps", "xa"))
def agg_mean(m, v):
    override(m, "aggregate_weights", lambda old, a: np.full_like(old(a), 1 / m.c.P))


@fault("agg-argmax", on=("ps", "xa"))
def agg_argmax(m, v):
    override(m, "aggregate_weights", lambda old, a: np.eye(m.c.P, dtype=m.num.ct)[a.argmax(-1)])


@fault("agg-replica0", on=("ps", "xa"))
def agg_replica0(m, v):
    m.weighted_sum = lambda w, y: y[0]


@fault("agg-no-smooth", on=("ps", "xa"))
def agg_no_smooth(m, v):
    m.smoothed = lambda w: w


@fault("agg-before-norm", on=("ps",), variants=("norm-after", "no-norm"))
def agg_before_norm(m, v):
    """The weights come from the normed states, the sum runs over the states before the final norm."""
    def aggregate(old, y, raw):
        m.raw = raw.reshape(m.c.P, m.B, -1, m.c.h)
        return old(y, raw)
    override(m, "aggregate", aggregate)

    def weighted(old, w, y):
        s = old(w, m.raw)
        return m.rms("model.norm", s) if v == "norm-after" else s
    override(m, "weighted_sum", weighted)


@fault("aggregation-branch-order", on=("ps", "xa"))
def branch_order(m, v):
    m.aggregate_input = lambda y: y.transpose(1, 2, 0, 3).reshape(*y.shape[1:3], -1)


# ---------------------------------------------------------------------------------------------------------- replica


@fault("replica-input-order", on=("ps",))
def input_order(m, v):
    m.replicate = lambda x: np.repeat(x, m.c.P, 0)


def skip_cross(m):
    override(m, "cross_attention", lambda old, i, x, tables: 0 * x)
    if m.c.replica_rope:
        hide(m, "model.replica_rope:(cos|sin)")


@fault("replica-feature-shadowed", on=("xa",), alias=("replica-wrong-flag",))
def shadowed(m, v):
    skip_cross(m)


@fault("replica-wrong-flag", on=("xa-rr",), alias=("replica-feature-shadowed",))
def wrong_flag(m, v):
    skip_cross(m)


@fault("replica-prefix-rows-not-stripped", on=("xb",), accept_unnamed=True)
def rows_not_stripped(m, v):
    """n = 1 with a prefix: T junk rows of the prefix's queries stand in front of the output."""
    def final(old, x):
        junk = rounded(m, m.rng.normal(size=(len(x), m.c.T, m.c.h)))
        return old(np.concatenate([junk, x], 1))
    override(m, "final_norm", final)


# ---------------------------------------------------------------------------------------------------------- numeric


@fault("numeric-tf32", on=("ps", "qwen2"), dtypes=("f32",))
def tf32(m, v):
    def cut(x):
        u = np.ascontiguousarray(x, np.float32).view(np.uint32)
        return ((u + 0xFFF + ((u >> 13) & 1)) & 0xFFFFE000).astype(np.uint32).view(np.float32).reshape(x.shape)
    override(m, "matmul", lambda old, a, b: old(cut(a), cut(b)))


@fault("numeric-softmax-low-precision", on=("ps", "qwen2"), variants=("rounded", "stepwise"))
def low_softmax(m, v):
    def softmax(old, x):
        b = round_bf16
        if v == "rounded":
            return b(old(b(x)))
        e = b(np.exp(b(b(x) - b(x).max(-1, keepdims=True))))
        total = np.zeros_like(e[..., 0])
        for j in range(e.shape[-1]):
            total = b(total + e[..., j])
        return b(e / total[..., None])

    def probs(old, i, s, keep):
        return m.num.r(softmax(m.softmax_last, m.add_mask(i, s, keep)))
    override(m, "probs", probs)


@fault("numeric-cast-order", on=("ps", "qwen2"), dtypes=("bf16",), accept_unnamed=True)
def cast_order(m, v):
    override(m, "rms", lambda old, name, x, eps=None: m.num.r(m.w[name + ".weight"] * m.unit(name, x, eps)))


@fault("numeric-fp16-overflow", on=("ps-overflow", "qwen2-overflow"), dtypes=("f32", "bf16", "f16"))
def f16_overflow(m, v):
    if m.num.name == "f16":
        return  # happens by itself
    edit(m, "model.layers.N(.mlp.down_proj)?", lambda x: np.where(np.abs(x) > 65504, np.copysign(np.inf, x), x).astype(x.dtype))
