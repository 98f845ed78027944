"""The ParScale family in plain numpy, written from spec/parscale.md alone.

It exists to disagree with parscope: nothing here was read from reference/ or model/. Every op is one small method of
Model, so that a fault (faults.py) can replace exactly one of them. Model.points of a step holds the values of trace.md,
in the table's order.
"""
import numpy as np

from config_np import Config, activation, inverse_frequencies, rotate_half_layout
from files_np import Num


class Model:
    def __init__(self, config, weights, dtype="f32", seed=0):
        self.c, self.num = Config(config), Num(dtype)
        self.w = {k: self.num.r(v) for k, v in weights.items()}
        if self.c.tied or "lm_head.weight" not in self.w:
            self.w["lm_head.weight"] = self.w["model.embed_tokens.weight"]
        self.rng = np.random.default_rng(seed)
        self.edits = []  # (predicate on the name, function): what a fault does to one value
        self.unrecorded = []  # predicates: values that this run does not write
        self.cache = [None] * self.c.L
        self.past = 0
        self.step = 0

    # ---- running

    def run(self, steps):
        """steps: dicts as in trace.json, with the input arrays in them. Returns the points of each step."""
        out = []
        for self.step, st in enumerate(steps):
            self.points, self.tags = {}, {}
            if st.get("op") == "reorder_cache":
                self.reorder(np.asarray(st["beam_idx"]))
            else:
                self.forward(st)
            out.append((self.points, self.tags))
        return out

    def tap(self, name, x, tag=None):
        """Names a value. Faults change it here, and what they return is used by all later ops."""
        for match, fn in self.edits:
            if match(name):
                x = fn(x)
        if not any(match(name) for match in self.unrecorded):
            self.points[name] = x
            self.tags[name] = tag or self.num.tag
        return x

    # ---- small ops

    def linear(self, name, x):
        w, b = self.w[name + ".weight"], self.w.get(name + ".bias")
        return self.num.r(self.matmul(x, w.T) + (0 if b is None else b))

    def matmul(self, a, b):
        return np.matmul(a, b)

    def rms(self, name, x, eps=None):
        """Statistics in the island type, cast, then the weight in the model's dtype."""
        return self.num.r(self.w[name + ".weight"] * self.num.r(self.unit(name, x, eps)))

    def unit(self, name, x, eps=None):
        x = x.astype(self.num.ct)
        return x / np.sqrt((x * x).mean(-1, keepdims=True, dtype=self.num.ct) + self.num.ct(self.c.eps if eps is None else eps))

    def softmax_last(self, x):
        x = x.astype(self.num.ct)
        with np.errstate(invalid="ignore"):
            e = np.exp(x - x.max(-1, keepdims=True))
            return e / e.sum(-1, keepdims=True, dtype=self.num.ct)

    # ---- before the layers

    def embed(self, ids):
        return self.w["model.embed_tokens.weight"][ids]

    def tile(self, x):
        """[B, ...] -> [P*B, ...], replica outermost."""
        return np.concatenate([x] * self.c.P, 0)

    def replicate(self, x):
        return self.tile(x)

    def positions(self, st, S):
        """RoPE positions, [1, S] or [R, S]."""
        p = st.get("position_ids")
        return np.arange(self.past, self.past + S)[None] if p is None else self.tile(np.asarray(p))

    def inv_freq(self):
        return inverse_frequencies(self.c, self.c.theta, self.c.d, self.c.scaling, self.c.max_pos, self.num.ct)

    def rope_tables(self, pos, f, m):
        a = pos.astype(self.num.ct)[..., None] * f
        a = np.concatenate([a, a], -1)
        return self.num.r(np.cos(a) * self.num.ct(m)), self.num.r(np.sin(a) * self.num.ct(m))

    def layer_tables(self, i, cos, sin):
        return cos, sin

    def causal(self, S, L):
        """[1, 1, S, L+S] over real columns."""
        return (np.arange(L + S)[None, :] <= L + np.arange(S)[:, None])[None, None]

    def keep(self, st, S, window=None):
        """[1 or R, 1, S, T+K], true = may attend."""
        L = self.past
        k = self.causal(S, L)
        if window:
            k = self.windowed(k, S, L, window)
        k = self.with_padding(k, st.get("attention_mask"))
        return self.with_prefix_columns(k)

    def windowed(self, k, S, L, window):
        i, j = L + np.arange(S)[:, None], np.arange(L + S)[None, :]
        return k & (j > i - window)

    def with_padding(self, k, am):
        return k if am is None else k & (self.tile(np.asarray(am)) == 1)[:, None, None, :]

    def with_prefix_columns(self, k):
        return np.concatenate([np.ones(k.shape[:3] + (self.c.T,), bool), k], -1)

    def keep_cross_kv(self, st, S):
        """[B, 1, P*S, P*K]; flattened index p*S+s and p*K+j."""
        if not self.c.xkv_causal:
            return np.ones((self.B, 1, self.c.P * S, self.c.P * S), bool)
        k, am = self.causal(S, self.past), st.get("attention_mask")
        k = np.repeat(k, self.B, 0) if am is None else k & (np.asarray(am) == 1)[:, None, None, :]
        return np.tile(k, (1, 1, self.c.P, self.c.P))

    # ---- attention

    def heads(self, x, n):
        R, S, w = x.shape
        return x.reshape(R, S, n, w // n)

    def rope(self, i, which, x, cos, sin):
        """x [R, heads, S, d]; cos, sin [1 or R, S, d]."""
        return self.rotate(x, cos[:, None], sin[:, None])

    def rotate(self, x, cos, sin):
        a, b = rotate_half_layout(x, cos, sin)
        return self.num.r(self.num.r(a) + self.num.r(b))

    def prefix(self, i):
        p = f"model.layers.{i}.self_attn.prefix_"
        return self.expand_prefix(self.w[p + "k"]), self.expand_prefix(self.w[p + "v"])

    def expand_prefix(self, x):
        return np.repeat(x, self.B, 0)

    def cached(self, i):
        """What layer i holds before this call, or None."""
        if self.cache[i] is None and self.c.T and i not in self.c.cross_kv:
            return self.prefix(i)
        return self.cache[i]

    def append(self, i, k, v):
        old = self.cached(i)
        if old is not None:
            k, v = np.concatenate([old[0], k], 2), np.concatenate([old[1], v], 2)
        return k, v

    def reorder(self, beam_idx):
        b = len(beam_idx)
        rows = np.concatenate([beam_idx + p * b for p in range(self.c.P)])
        self.cache = [(k[rows], v[rows]) for k, v in self.cache]

    def expand_kv(self, i, x):
        """[R, K, T, d] -> [R, H, T, d]: query head h reads h // (H/K)."""
        return np.repeat(x, self.c.H // self.c.K, 1)

    def scale(self, i):
        return self.c.d**-0.5

    def scores(self, i, q, k):
        return self.num.r(self.num.r(self.matmul(q, np.swapaxes(k, -1, -2))) * self.num.ct(self.scale(i)))

    def add_mask(self, i, s, keep):
        return self.num.r(s + np.where(keep, 0, self.num.lowest).astype(self.num.ct))

    def probs(self, i, s, keep):
        return self.num.r(self.softmax_last(self.add_mask(i, s, keep)))

    def context(self, i, p, v):
        return self.num.r(self.matmul(p, v))

    def join_heads(self, i, ctx):
        R, H, S, d = ctx.shape
        return np.swapaxes(ctx, 1, 2).reshape(R, S, H * d)

    def qkv(self, i, h):
        n = f"model.layers.{i}.self_attn."
        return [self.tap(n + p, self.linear(n + p, h)) for p in ("q_proj", "k_proj", "v_proj")]

    def norm_and_rope(self, i, q, k, cos, sin):
        """q [R, S, H, d] and k -> rotated [R, heads, S, d]."""
        n = f"model.layers.{i}.self_attn."
        if self.c.qk_norm:
            q = self.tap(n + "q_norm", self.rms(n + "q_norm", q))
            k = self.tap(n + "k_norm", self.rms(n + "k_norm", k))
        q = self.rope(i, "q", np.swapaxes(q, 1, 2), cos, sin)
        k = self.rope(i, "k", np.swapaxes(k, 1, 2), cos, sin)
        return q, k

    def attention(self, i, h, cos, sin, keep):
        n = f"model.layers.{i}.self_attn"
        q, k, v = self.qkv(i, h)
        q, k = self.norm_and_rope(i, self.heads(q, self.c.H), self.heads(k, self.c.K), *self.layer_tables(i, cos, sin))
        q, k = self.tap(n + ":q_rope", q), self.tap(n + ":k_rope", k)
        v = np.swapaxes(self.heads(v, self.c.K), 1, 2)
        k, v = self.append(i, k, v)
        k, v = self.tap(n + ":k_cache", k), self.tap(n + ":v_cache", v)
        self.cache[i] = (k, v)
        if i in self.c.cross_kv:
            ctx = self.cross_kv_attention(i, q, k, v, keep)
        else:
            s = self.tap(n + ":scores", self.scores(i, q, self.expand_kv(i, k)))
            p = self.tap(n + ":probs", self.probs(i, s, keep))
            ctx = self.join_heads(i, self.context(i, p, self.expand_kv(i, v)))
        ctx = self.tap(n + ":context", ctx)
        return self.tap(n + ".o_proj", self.linear(n + ".o_proj", ctx))

    def cross_kv_attention(self, i, q, k, v, keep):
        P, B = self.c.P, self.B

        def flat(x):  # [P*B, heads, s, d] -> [B, heads, P*s, d]
            _, n, s, d = x.shape
            return x.reshape(P, B, n, s, d).transpose(1, 2, 0, 3, 4).reshape(B, n, P * s, d)

        s = self.scores(i, flat(q), flat(self.expand_kv(i, k)))
        ctx = self.context(i, self.probs(i, s, keep), flat(self.expand_kv(i, v)))
        S = q.shape[2]
        return ctx.reshape(B, self.c.H, P, S, self.c.d).transpose(2, 0, 3, 1, 4).reshape(P * B, S, self.c.H * self.c.d)

    # ---- cross-replica attention

    def replica_tables(self):
        d = self.c.dx
        f = (1.0 / (10000.0 ** (np.arange(0, d, 2).astype(self.num.ct) / d))).astype(self.num.ct)
        a = np.repeat(np.arange(self.c.P).astype(self.num.ct)[:, None] * f, 2, -1)[None]
        a = np.repeat(a, self.B, 0)
        return np.cos(a), np.sin(a)

    def replica_rope(self, which, x, tables):
        """x [B, S, heads, P, d']; the tables are never cast, so the sum is rounded once."""
        cos, sin = (t[:, None, None] for t in tables)
        a, b = rotate_half_layout(x, cos, sin)
        return self.num.r(a + b)

    def cross_scores(self, i, q, k):
        return self.num.r(self.num.r(self.matmul(q, np.swapaxes(k, -1, -2))) * self.num.ct(self.c.dx**-0.5))

    def cross_attention(self, i, x, tables):
        c, n = self.c, f"model.layers.{i}.cross_replica_attn"
        h = self.tap(f"model.layers.{i}.cross_replica_layernorm", self.rms(f"model.layers.{i}.cross_replica_layernorm", x))
        q, k, v = [self.tap(f"{n}.{p}", self.linear(f"{n}.{p}", h)) for p in ("q_proj", "k_proj", "v_proj")]
        R, S, _ = x.shape

        def group(y, heads):  # [P*B, S, heads*d'] -> [B, S, heads, P, d']
            return y.reshape(c.P, self.B, S, heads, c.dx).transpose(1, 2, 3, 0, 4)

        q, k, v = group(q, c.H), group(k, c.K), group(v, c.K)
        if tables is not None:
            q = self.tap(n + ":q_rope", self.replica_rope("q", q, tables))
            k = self.tap(n + ":k_rope", self.replica_rope("k", k, tables))
        k, v = self.expand_cross(i, k), self.expand_cross(i, v)
        p = self.tap(n + ":probs", self.num.r(self.softmax_last(self.cross_scores(i, q, k))))
        ctx = self.num.r(self.matmul(p, v)).transpose(3, 0, 1, 2, 4).reshape(R, S, c.H * c.dx)
        ctx = self.tap(n + ":context", ctx)
        return self.tap(n + ".o_proj", self.linear(n + ".o_proj", ctx))

    def expand_cross(self, i, x):
        return np.repeat(x, self.c.H // self.c.K, 2)

    # ---- layer

    def mlp(self, i, h):
        n = f"model.layers.{i}.mlp"
        g = self.tap(n + ".gate_proj", self.linear(n + ".gate_proj", h))
        u = self.tap(n + ".up_proj", self.linear(n + ".up_proj", h))
        a = self.tap(n + ":act", self.gated(g, u))
        return self.tap(n + ".down_proj", self.linear(n + ".down_proj", a))

    def gated(self, g, u):
        return self.num.r(self.num.r(activation(self.c.act, g)) * u)

    def residual(self, i, which, x, y, normed):
        """which: 'cross', 'attn' or 'mlp'; normed is what the branch read."""
        return self.num.r(x + y)

    def layer(self, i, x, tables):
        n = f"model.layers.{i}"
        if i in self.c.cross:
            x = self.num.r(x + self.cross_attention(i, x, tables["replica"]))
        h = self.tap(n + ".input_layernorm", self.rms(n + ".input_layernorm", x))
        keep = tables["cross_kv"] if i in self.c.cross_kv else self.layer_keep(i, tables)
        o = self.attention(i, h, tables["cos"], tables["sin"], keep)
        x = self.tap(n + ":attn_residual", self.residual(i, "attn", x, o, h))
        h = self.tap(n + ".post_attention_layernorm", self.rms(n + ".post_attention_layernorm", x))
        return self.tap(n, self.residual(i, "mlp", x, self.mlp(i, h), h))

    def layer_keep(self, i, tables):
        return tables["keep_window"] if self.uses_window(i) else tables["keep"]

    def uses_window(self, i):
        return i in self.c.window

    # ---- aggregation and head

    def aggregate_input(self, y):
        """[P, B, S, h] -> [B, S, h*P], feature index h*P + p."""
        P, B, S, h = y.shape
        return y.transpose(1, 2, 3, 0).reshape(B, S, h * P)

    def aggregate_weights(self, a):
        w = self.softmax_last(a)
        return self.smoothed(w)

    def smoothed(self, w):
        s, t = self.c.smooth, self.num.ct
        return (w * t(1 - s) + t(s / self.c.P)).astype(t) if s else w

    def weighted_sum(self, w, y):
        """w [B, S, P], y [P, B, S, h]."""
        return self.num.r(sum(w[..., p, None] * y[p] for p in range(self.c.P)))

    def aggregate(self, y, before_norm):
        c = self.c
        y = y.reshape(c.P, self.B, -1, c.h)
        z = self.aggregate_input(y)
        for match, fn in self.edits:
            if match("model:aggregate_input"):
                z = fn(z)
        a0 = self.tap("model.aggregate_layer.0", self.linear("model.aggregate_layer.0", z))
        a = self.tap("model.aggregate_layer.2", self.linear("model.aggregate_layer.2", self.num.r(activation("silu", a0))))
        self.points["model:aggregate_input"], self.tags["model:aggregate_input"] = z, self.num.tag
        island = "F64" if self.num.name == "f64" else "F32"
        w = self.tap("model:aggregate_weights", self.aggregate_weights(a), island)
        return self.tap("model:aggregated", self.weighted_sum(w, y))

    def final_norm(self, x):
        return self.rms("model.norm", x)

    def head(self, x):
        return self.linear("lm_head", x)

    def layers(self):
        return range(self.c.L)

    def forward(self, st):
        c, ids = self.c, np.asarray(st["input_ids"])
        self.B, S = ids.shape
        x = self.tap("model.embed_tokens", self.embed(ids))
        x = self.replicate(x)
        if c.P > 1:
            x = self.tap("model:replicated", x)
        f, m = self.inv_freq()
        cos, sin = self.rope_tables(self.positions(st, S), f, m)
        t = {"cos": self.tap("model.rotary_emb:cos", cos), "sin": self.tap("model.rotary_emb:sin", sin)}
        self.tap("model.rotary_emb:inv_freq", f, "F64" if self.num.name == "f64" else "F32")
        t["replica"] = None
        if c.replica_rope:
            t["replica"] = self.replica_tables()
            for name, v in zip((":cos", ":sin"), t["replica"]):
                self.tap("model.replica_rope" + name, v, "F64" if self.num.name == "f64" else "F32")
        t["keep"] = self.keep(st, S)
        t["keep_window"] = self.keep(st, S, next(iter(c.window.values()))) if c.window else t["keep"]
        plain = [i for i in range(c.L) if i not in c.cross_kv]
        if len({self.uses_window(i) for i in plain}) == 1:  # trace.md has one mask: with two kinds of layers none is written
            chosen = "keep_window" if self.uses_window(plain[0]) else "keep"
            t[chosen] = self.tap("model:mask", t[chosen], "BOOL")
        if c.cross_kv:
            t["cross_kv"] = self.tap("model:mask_cross_kv", self.keep_cross_kv(st, S), "BOOL")
        self.x0 = x
        for i in self.layers():
            x = self.layer(i, x, t)
        y = self.tap("model.norm", self.final_norm(x))
        out = self.aggregate(y, x) if c.P > 1 else y
        self.tap("lm_head", self.head(out))
        self.past += S
