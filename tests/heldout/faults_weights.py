"""Classes weights and shard of faults.json. Shard faults: what tp = 2 (or 4) simulated ranks give once their activations are joined."""
import numpy as np

from faults import fault, layers, override, rounded
from config_np import activation

TP = 2


def each(m, *names, what="weight"):
    """(parameter name) of the given projections in all layers."""
    return [k for n in names for k in layers(m, n, what)]


@fault("weights-lm-head-missing-or-untied", on=("ps", "qwen2"))
def head_missing(m, v):
    m.w["lm_head.weight"] = rounded(m, m.rng.normal(0, 0.02, m.w["lm_head.weight"].shape))


@fault("weights-lm-head-wrongly-tied", on=("ps", "qwen2"))
def wrongly_tied(m, v):
    m.w["lm_head.weight"] = m.w["model.embed_tokens.weight"]


PARTS = ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj", "post_attention_layernorm", "aggregate_layer.0")


@fault("weights-silently-missing", on=("ps",), variants=PARTS)
def silently_missing(m, v):
    name = f"model.{v}.weight" if v.startswith("agg") else f"model.layers.{m.rng.integers(m.c.L)}.{v}.weight"
    shape = m.w[name].shape
    m.w[name] = rounded(m, np.ones(shape) if "layernorm" in v else m.rng.normal(0, 0.02, shape))


@fault("weights-lazy-module", on=("xa",), alias=("weights-silently-missing",))
def lazy(m, v):
    name = "model.layers.0.cross_replica_attn.o_proj.weight"
    m.w[name] = rounded(m, m.rng.uniform(-1, 1, m.w[name].shape) * m.c.h**-0.5)


def rows(m):
    """Row counts of q, k and v."""
    return [m.c.H * m.c.d, m.c.K * m.c.d, m.c.K * m.c.d]


def on_fused(m, what, fn):
    """fn(q, k, v rows of one layer) -> new q, k, v, for weights and biases alike."""
    for i in range(m.c.L):
        names = [f"model.layers.{i}.self_attn.{p}_proj.{what}" for p in "qkv"]
        if names[0] in m.w:
            for n, x in zip(names, fn(*[m.w[n] for n in names])):
                m.w[n] = np.ascontiguousarray(x)


def group_order(m, reverse):
    g, K, d = m.c.H // m.c.K, m.c.K, m.c.d

    def fn(q, k, v):
        if not reverse:  # stored per group, read as [Q | K | V]
            f = np.concatenate([x for j in range(K) for x in (q[j * g * d:(j + 1) * g * d], k[j * d:(j + 1) * d], v[j * d:(j + 1) * d])])
            return np.split(f, np.cumsum(rows(m))[:2])
        f = np.concatenate([q, k, v]).reshape(K, (g + 2) * d, *q.shape[1:])  # stored [Q | K | V], read per group
        return [f[:, a * d:b * d].reshape(-1, *q.shape[1:]) for a, b in ((0, g), (g, g + 1), (g + 1, g + 2))]
    for what in ("weight", "bias"):
        on_fused(m, what, fn)


@fault("weights-fused-qkv-group-order", on=("ps", "qwen2"))
def fused_group(m, v):
    group_order(m, False)


@fault("weights-fused-qkv-group-order", on=("ps", "qwen2"), variants=("reverse",), alias=("shard-fused-qkv-contiguous",))
def fused_group_reverse(m, v):
    group_order(m, True)


@fault("weights-qkv-bias-dropped", on=("ps", "qwen2"), variants=("q", "k", "v", "all"))
def bias_dropped(m, v):
    for p in "qkv" if v == "all" else v:
        for k in each(m, f"self_attn.{p}_proj", what="bias"):
            del m.w[k]


@fault("weights-k-bias-uninitialised", on=("ps", "qwen2"), variants=("garbage", "nan"))
def k_bias(m, v):
    for k in each(m, "self_attn.k_proj", what="bias"):
        m.w[k] = rounded(m, np.full(m.w[k].shape, np.nan) if v == "nan" else m.rng.normal(0, 2, m.w[k].shape))


@fault("weights-transposed", on=("ps-square", "qwen2-square"), variants=("q_proj", "o_proj"))
def transposed(m, v):
    for k in each(m, "self_attn." + v):
        m.w[k] = m.w[k].T.copy()


@fault("weights-activation-variant", on=("ps", "qwen2"), variants=("gelu_pytorch_tanh", "gelu", "quick_gelu"))
def act_variant(m, v):
    m.c.act = v


@fault("weights-activation-variant", on=("ps-gelu",), variants=("gelu_pytorch_tanh", "silu", "quick_gelu"))
def act_variant_gelu(m, v):
    m.c.act = v


@fault("weights-gate-up-swapped", on=("ps", "qwen2"))
def gate_up(m, v):
    for what in ("weight", "bias"):
        for a, b in zip(each(m, "mlp.gate_proj", what=what), each(m, "mlp.up_proj", what=what)):
            m.w[a], m.w[b] = m.w[b], m.w[a]


@fault("act-on-up", on=("ps", "qwen2"))
def act_on_up(m, v):
    m.gated = lambda g, u: m.num.r(m.num.r(activation(m.c.act, u)) * g)


@fault("weights-embed-scale", on=("ps", "qwen2"), variants=("sqrt", "full"))
def embed_scale(m, v):
    override(m, "embed", lambda old, ids: m.num.r(old(ids) * m.num.ct(m.c.h**0.5 if v == "sqrt" else m.c.h)))


@fault("weights-dtype-scale-dropped", on=("ps", "qwen2"), variants=("down_proj", "o_proj", "k_cache"))
def scale_dropped(m, v):
    s = m.num.ct(0.0123)
    if v == "k_cache":
        override(m, "append", lambda old, i, k, val: old(i, m.num.r(k / s), val))
        return
    for k in each(m, ("mlp." if v[0] == "d" else "self_attn.") + v):
        m.w[k] = m.num.r(m.w[k] / s)


@fault("weights-vocab-padding-wins", on=("ps", "qwen2"))
def vocab_padding(m, v):
    w = m.w["lm_head.weight"]
    m.w["lm_head.weight"] = np.concatenate([w, np.zeros((31, w.shape[1]), w.dtype)])


@fault("weights-config-field-dropped", on=("ps-theta-eps5", "qwen2-theta-eps5"), alias=("norm-eps-wrong", "rope-theta-default"))
def field_dropped(m, v):
    m.c.eps, m.c.theta = 1e-6, 10000.0


@fault("rope-permute-skipped", on=("ps", "qwen2"), variants=("to-halves", "to-pairs", "k-only", "bias-left"))
def permute_skipped(m, v):
    def perm(n):
        i = np.arange(n).reshape(-1, m.c.d)
        out = i.reshape(-1, 2, m.c.d // 2).swapaxes(1, 2) if v == "to-pairs" else i.reshape(-1, m.c.d // 2, 2).swapaxes(1, 2)
        return out.reshape(-1)
    for what in ("weight",) if v == "bias-left" else ("weight", "bias"):
        for k in each(m, *(["self_attn.k_proj"] if v == "k-only" else ["self_attn.q_proj", "self_attn.k_proj"]), what=what):
            m.w[k] = m.w[k][perm(len(m.w[k]))]


# ------------------------------------------------------------------------------------------------------------ shard


def halves(m, name, tp=TP):
    """The row ranges of one parameter that the ranks own."""
    n = len(m.w[name]) // tp
    return n, [slice(r * n, (r + 1) * n) for r in range(tp)]


def row_parallel(m, name, x, tp=TP):
    """Each rank's partial product, bias left out."""
    w, n = m.w[name + ".weight"], x.shape[-1] // tp
    return [m.num.r(m.matmul(x[..., r * n:(r + 1) * n], w[:, r * n:(r + 1) * n].T)) for r in range(tp)]


def on_rows(m, names, fn):
    """Replaces the row-parallel linears whose name ends so: fn(partials, bias)."""
    def linear(old, name, x):
        if not name.endswith(names):
            return old(name, x)
        return m.num.r(fn(row_parallel(m, name, x), m.w.get(name + ".bias", m.num.ct(0))))
    override(m, "linear", linear)


ROWS = ("self_attn.o_proj", "mlp.down_proj")


@fault("shard-row-bias-every-rank", on=("llama-tp-bias", "llama-tp-bias-l3"), variants=("both", "down_proj"))
def row_bias(m, v):
    on_rows(m, ROWS if v == "both" else ROWS[1:], lambda parts, b: sum(m.num.r(p + b) for p in parts))


@fault("shard-double-all-reduce", on=("llama-tp-bias", "ps-tp"), variants=("both", "down_proj"))
def double_reduce(m, v):
    on_rows(m, ROWS if v == "both" else ROWS[1:], lambda parts, b: TP * m.num.r(sum(parts)) + b)


@fault("shard-missing-all-reduce", on=("llama-tp-bias", "ps-tp"), variants=("both", "down_proj"), alias=("shard-noncontiguous-reduce",))
def missing_reduce(m, v):
    on_rows(m, ROWS if v == "both" else ROWS[1:], lambda parts, b: parts[0] + b)


@fault("shard-noncontiguous-reduce", on=("qwen2-tp",), variants=("o_proj",), alias=("shard-missing-all-reduce",))
def noncontiguous_reduce(m, v):
    on_rows(m, ROWS[:1], lambda parts, b: parts[0] + b)


@fault("shard-fused-qkv-contiguous", on=("ps-tp", "qwen2-tp", "llama-tp"), alias=("weights-fused-qkv-group-order",))
def fused_contiguous(m, v):
    local = [n // TP for n in rows(m)]

    def fn(q, k, val):
        shards = [np.split(s, np.cumsum(local)[:2]) for s in np.split(np.concatenate([q, k, val]), TP)]
        return [np.concatenate(x) for x in zip(*shards)]
    for what in ("weight", "bias"):
        on_fused(m, what, fn)


@fault("shard-kv-head-replication", on=("qwen2-tp4", "ps-tp4"), alias=("shard-all-ranks-load-shard-0",))
def kv_replication(m, v):
    """tp = 4 on 2 key/value heads: rank r loads head r % 2, of the prefix too. Joined, each head comes from the first rank of its
    group (0 and 2), so head 0 stands there twice, while the queries of each rank attend the head that the rank really holds."""
    ranks = np.arange(m.c.H) // (m.c.H // 4)
    held = {}  # layer -> keys and values of both heads, which ranks 0 and 1 hold

    def linear(old, name, x):
        y = old(name, x)
        if not name.endswith(("self_attn.k_proj", "self_attn.v_proj")):
            return y
        held[name[-6]] = np.swapaxes(m.heads(y, m.c.K), 1, 2)
        return np.concatenate([y[..., :m.c.d]] * 2, -1)
    override(m, "linear", linear)

    def layer_tables(old, i, cos, sin):
        m.now = cos, sin
        return cos, sin
    override(m, "layer_tables", layer_tables)

    def append(old, i, k, val):
        m.cache[i] = held.get(i) or m.cache[i]
        held[i] = old(i, m.rope(i, "k", held["k"], *m.now), held["v"])
        m.reads = [0, 1]  # attention() expands the keys, then the values
        return tuple(t[:, [0, 0]] for t in held[i])
    override(m, "append", append)
    m.expand_kv = lambda i, x: held[i][m.reads.pop(0)][:, ranks % 2]


@fault("shard-kv-replication-bias-forgotten", on=("qwen2-tp4", "ps-tp4"), alias=("shard-column-bias-not-sliced",), accept_unnamed=True)
def kv_bias_forgotten(m, v):
    """Weights replicated rightly, biases tiled in the other order: both heads, once joined, carry the bias of head 0."""
    for k in each(m, "self_attn.k_proj", "self_attn.v_proj", what="bias"):
        m.w[k] = np.tile(m.w[k][:m.c.d], 2)


@fault("shard-column-bias-not-sliced", on=("qwen2-tp", "llama-tp-bias"), variants=("q", "qkv"))
def column_bias(m, v):
    for k in each(m, *[f"self_attn.{p}_proj" for p in v], what="bias"):
        n, _ = halves(m, k)
        m.w[k] = np.tile(m.w[k][:n], TP)


@fault("shard-all-ranks-load-shard-0", on=("qwen2-tp", "ps-tp"), variants=("q_proj", "gate_proj", "o_proj", "all"))
def shard_zero(m, v):
    names = {"q_proj": ["self_attn.q_proj"], "gate_proj": ["mlp.gate_proj"], "o_proj": [],
             "all": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"]}[v]
    for what in ("weight", "bias"):
        for k in each(m, *names, what=what):
            n, _ = halves(m, k)
            m.w[k] = np.concatenate([m.w[k][:n]] * TP)
    for k in each(m, *(ROWS[:1] if v == "o_proj" else ROWS if v == "all" else ())):
        n = m.w[k].shape[1] // TP
        m.w[k] = np.concatenate([m.w[k][:, :n]] * TP, 1)


@fault("shard-wrong-dim", on=("qwen2-tp", "llama-tp"), variants=("rank-0", "view"), accept_unnamed=True)
def wrong_dim(m, v):
    """Square q_proj. rank-0: x[:, cols_0] W[:, cols_0]^T as in the signature. view: each rank's [out, in/tp] read as [out/tp, in]."""
    for k in each(m, "self_attn.q_proj"):
        w = m.w[k]
        n = w.shape[1] // TP
        if v == "view":
            m.w[k] = np.concatenate([np.ascontiguousarray(w[:, r * n:(r + 1) * n]).reshape(-1, w.shape[1]) for r in range(TP)])
        else:
            m.w[k] = np.where(np.arange(w.shape[1]) < n, w, 0).astype(w.dtype)


@fault("shard-qk-norm-weight-fraction", on=("qwen3-tp",), accept_unnamed=True)
def norm_fraction(m, v):
    def rms(old, name, x, eps=None):
        if not name.endswith(("q_norm", "k_norm")):
            return old(name, x, eps)
        w, heads = m.w[name + ".weight"], x.shape[2]
        n = len(w) // TP
        rank = np.arange(heads) // (heads // TP)
        wrong = np.stack([np.tile(w[r * n:(r + 1) * n], TP) for r in rank])  # [heads, d]
        return m.num.r(wrong * m.num.r(m.unit(name, x)))
    override(m, "rms", rms)


@fault("shard-quant-scale-wrong-slice", on=("qwen2-tp", "ps-tp"))
def quant_slice(m, v):
    """One scale per output row; rank 1 reads rank 0's."""
    for k in each(m, "self_attn.q_proj"):
        n, _ = halves(m, k)
        s = np.exp(m.rng.uniform(-0.7, 0.7, len(m.w[k])))
        wrong = np.concatenate([s[:n]] * TP)
        m.w[k] = m.num.r((m.w[k] * (wrong / s)[:, None]).astype(m.num.ct))


@fault("embedding-shard-not-masked", on=("qwen2-tp", "ps-tp"))
def embed_not_masked(m, v):
    def embed(old, ids):
        w = m.w["model.embed_tokens.weight"]
        n, y = len(w) // TP, 0
        for r in range(TP):
            y = y + w[r * n + np.where((ids >= r * n) & (ids < (r + 1) * n), ids - r * n, 0)]  # no y[mask] = 0
        return m.num.r(y)
    override(m, "embed", embed)


@fault("tp-rank-swap-o", on=("qwen2-tp", "ps-tp"), alias=("head-perm",))
def rank_swap(m, v):
    for k in each(m, "self_attn.o_proj"):
        m.w[k] = np.roll(m.w[k], m.w[k].shape[1] // 2, 1)


@fault("layer-skip-last", on=("ps", "qwen2"))
def skip_last(m, v):
    m.layers = lambda: range(m.c.L - 1)
