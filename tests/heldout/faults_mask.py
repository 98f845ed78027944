"""Class mask of faults.json, and the mask operators that nobody reported."""
import numpy as np

from faults import fault, override


def neg_inf(m):
    """Fill with -inf, and let a row without any key become NaN."""
    m.add_mask = lambda i, s, keep: np.where(keep, s, -np.inf)


@fault("mask-causal-topleft-alignment", on=("ps", "qwen2"), variants=("all-columns", "token-columns"))
def topleft(m, v):
    if v == "token-columns":  # the prefix stays visible
        m.causal = lambda S, L: (np.arange(L + S)[None] <= np.arange(S)[:, None])[None, None]
    else:  # j <= i over every column, the prefix's too
        override(m, "keep", lambda old, st, S, window=None: old_padding(m, st, S))


def old_padding(m, st, S):
    cols = m.c.T + m.past + S
    tri = (np.arange(cols)[None] <= np.arange(S)[:, None])[None, None]
    pad = m.with_prefix_columns(m.with_padding(np.ones((1, 1, S, m.past + S), bool), st.get("attention_mask")))
    return tri & pad


@fault("mask-causal-topleft-alignment", on=("ps",), program="nopad-bare", variants=("no-mask",))
def topleft_bare(m, v):
    topleft(m, "all-columns")


@fault("mask-fully-masked-row-nan", on=("qwen2", "ps-p1", "ps-t0"))
def masked_row_nan(m, v):
    neg_inf(m)


@fault("mask-window-off-by-one", on=("qwen2-win", "qwen2-mix"), variants=(1, -1))
def window_off(m, v):
    override(m, "windowed", lambda old, k, S, L, w: old(k, S, L, w + v))


@fault("mask-window-missing", on=("qwen2-win", "qwen2-mix"))
def window_missing(m, v):
    m.windowed = lambda k, S, L, w: k


@fault("mask-window-layer-pattern-inverted", on=("qwen2-mix-l3",))
def window_inverted(m, v):
    m.uses_window = lambda i: i not in m.c.window


@fault("mask-window-zero-width", on=("ps", "qwen2"), variants=("none", "self"), alias=("mask-zero-times-neginf@inner", "mask-zero-times-neginf@hooks", "mask-zero-times-neginf@layers"))
def window_zero(m, v):
    if v == "none":
        m.causal = lambda S, L: np.zeros((1, 1, S, L + S), bool)
        neg_inf(m)
    else:
        m.causal = lambda S, L: (np.arange(L + S)[None] == L + np.arange(S)[:, None])[None, None]


@fault("mask-bool-as-additive", on=("ps", "qwen2"))
def bool_additive(m, v):
    m.add_mask = lambda i, s, keep: m.num.r(s + keep.astype(m.num.ct))


@fault("mask-causal-skipped-with-cache", on=("ps", "qwen2"), variants=("all-ones", "padding-kept"))
def causal_skipped(m, v):
    def keep(old, st, S, window=None):
        if S == 1:
            return old(st, S, window)
        ones = np.ones((1, 1, S, m.past + S), bool)
        return m.with_prefix_columns(ones if v == "all-ones" else m.with_padding(ones, st.get("attention_mask")))
    override(m, "keep", keep)


@fault("mask-polarity-inverted", on=("ps", "qwen2"))
def polarity(m, v):
    override(m, "keep", lambda old, *a: ~old(*a))


@fault("mask-padding-ignored", on=("ps", "qwen2"))
def padding_ignored(m, v):
    m.with_padding = lambda k, am: k


@fault("mask-prefix-columns-ones", on=("ps", "xb"))
def prefix_ones(m, v):
    def add(old, i, s, keep):
        bias = (np.arange(s.shape[-1]) < m.c.T).astype(m.num.ct)
        return m.num.r(s + np.where(keep, bias, m.num.lowest).astype(m.num.ct))
    override(m, "add_mask", add)


@fault("mask-prefix-length-missing", on=("ps",), variants=("aligned-right",), accept_unnamed=True)
def prefix_length(m, v):
    """An exception as a rule; here the variant that broadcasts: the mask without the prefix sits on the first columns, prefill only."""
    def keep(old, st, S, window=None):
        k = old(st, S, window)
        if m.past or not m.c.T:
            return k
        out = np.ones_like(k)
        out[..., m.c.T:] = k[..., :-m.c.T]
        return out
    override(m, "keep", keep)


@fault("mask-zero-times-neginf", on=("ps", "qwen2"), variants=("product", "all-inf"), alias=("mask-window-zero-width@inner", "mask-window-zero-width@hooks", "mask-window-zero-width@layers"))
def zero_times(m, v):
    def add(old, i, s, keep):
        with np.errstate(invalid="ignore"):
            return s + ((1 - keep.astype(m.num.ct)) * -np.inf if v == "product" else -np.inf)
    override(m, "add_mask", add)


@fault("mask-flex-block-length-stale", on=("ps", "qwen2"), variants=("false", "true"), alias=("mask-causal-skipped-with-cache@true",), accept_unnamed=True)
def stale_block(m, v):
    """The mask object of the prefill is used for the longer calls: columns beyond it are all masked, or all seen."""
    def keep(old, st, S, window=None):
        k = old(st, S, window)
        if m.past == 0:
            m.built = S
        else:
            k = k.copy()
            k[..., m.c.T + m.built:] = v == "true"
        return k
    override(m, "keep", keep)


@fault("mask-cross-replica-future-leak", on=("xkv",))
def future_leak(m, v):
    override(m, "keep_cross_kv", lambda old, st, S: np.ones_like(old(st, S)))


@fault("mask-heads-batch-order", on=("ps", "qwen2"))
def heads_batch(m, v):
    def keep(old, st, S, window=None):
        k = old(st, S, window)
        R, H = len(k), m.c.H
        return k[np.arange(R * H) % R, 0].reshape(R, H, S, -1)
    override(m, "keep", keep)


@fault("mask-one-token-special-case", on=("ps", "qwen2"), alias=("mask-padding-ignored",))
def one_token(m, v):
    """The branch that applies masks is taken iff S != 1: a call of one token gets no mask."""
    def keep(old, st, S, window=None):
        k = old(st, S, window)
        return np.ones_like(k) if S == 1 else k
    override(m, "keep", keep)


@fault("mask-constant-overflows-fp16", on=("qwen2",), dtypes=("f16",), alias=("mask-fully-masked-row-nan",))
def overflow_f16(m, v):
    with np.errstate(over="ignore"):
        fill = np.float32(np.float16(np.float32(-1e9)))
    m.add_mask = lambda i, s, keep: m.num.r(s + np.where(keep, 0, fill).astype(np.float32))


@fault("replica-mask-not-expanded", on=("ps",), variants=("batch-outer",), accept_unnamed=True)
def mask_not_expanded(m, v):
    """An exception as a rule; here the silent kind: replica rows read the mask of another sample."""
    def keep(old, st, S, window=None):
        return np.repeat(old(st, S, window)[:m.B], m.c.P, 0)
    override(m, "keep", keep)


@fault("mask-causal-sees-next-token", on=("ps", "qwen2"))
def sees_next(m, v):
    m.causal = lambda S, L: (np.arange(L + S)[None] <= L + 1 + np.arange(S)[:, None])[None, None]


@fault("mask-causal-hides-self", on=("ps", "qwen2"))
def hides_self(m, v):
    m.causal = lambda S, L: (np.arange(L + S)[None] < L + np.arange(S)[:, None])[None, None]
    neg_inf(m)


@fault("mask-prefix-appended", on=("ps", "xb"))
def prefix_appended(m, v):
    m.with_prefix_columns = lambda k: np.concatenate([k, np.ones(k.shape[:3] + (m.c.T,), bool)], -1)
