"""config.json as parscale.md section 1 reads it, the frequencies of RoPE, and the activations."""
import math

import numpy as np


class Config:
    def __init__(self, c):
        self.raw = c
        g = c.get
        self.kind = g("model_type")
        self.arch = (g("architectures") or [""])[0]
        self.xattn = self.kind in ("parscale_base", "parscale_cross_attn")
        parscale = self.xattn or self.kind == "qwen2_parscale"
        self.V, self.h, self.I, self.L = c["vocab_size"], c["hidden_size"], c["intermediate_size"], c["num_hidden_layers"]
        self.H, self.K = c["num_attention_heads"], c.get("num_key_value_heads") or c["num_attention_heads"]
        self.d = g("head_dim") or self.h // self.H
        self.dx = self.h // self.H  # cross-replica attention ignores head_dim
        self.eps, self.act = g("rms_norm_eps", 1e-6), g("hidden_act", "silu")
        self.theta, self.scaling = float(g("rope_theta", 10000.0)), g("rope_scaling")
        self.max_pos = g("max_position_embeddings", 32768)
        self.tied = bool(g("tie_word_embeddings", False))
        self.P = g("parscale_n", 1) if parscale else 1
        tokens = g("parscale_n_tokens", 0 if self.xattn else 48) if parscale else 0
        self.T = tokens if (self.xattn or self.P > 1) else 0
        self.smooth = g("parscale_attn_smooth", 0.01)
        self.qk_norm = self.kind == "qwen3"
        listed = g("parscale_cross_attn_layers")
        on = self.kind == "parscale_cross_attn" and g("enable_cross_attn", False)
        layers = set(range(self.L) if listed is None else listed) if on else set()
        self.cross_kv = layers if self.arch == "ParScaleCrossKVForCausalLM" else set()
        self.cross = layers - self.cross_kv
        self.replica_rope = bool(g("enable_replica_rope", False)) and bool(self.cross)
        self.xkv_causal = g("xkv_causal", True)
        self.window = {}  # layer -> width; ParScale accepts the option and ignores it
        if self.kind in ("qwen2", "qwen3") and g("use_sliding_window", False) and g("sliding_window"):
            self.window = {i: g("sliding_window") for i in range(self.L) if i >= g("max_window_layers", 28)}


def inverse_frequencies(c, theta, d, scaling, max_pos, ct=np.float32):
    """(inv_freq [d/2], factor on cos and sin)."""
    j = np.arange(0, d, 2).astype(ct)
    f = (1.0 / (ct(theta) ** (j / ct(d)))).astype(ct)
    if not scaling:
        return f, 1.0
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "linear":
        return (f / ct(scaling["factor"])).astype(ct), 1.0
    if kind == "llama3":
        k, lo, hi = scaling["factor"], scaling["low_freq_factor"], scaling["high_freq_factor"]
        orig = scaling["original_max_position_embeddings"]
        w = 2 * math.pi / f.astype(np.float64)
        m = (orig / w - lo) / (hi - lo)
        out = np.where(w < orig / hi, f, np.where(w > orig / lo, f / k, f * ((1 - m) / k + m)))
        return out.astype(ct), 1.0
    if kind == "yarn":
        k = scaling.get("factor")
        given = scaling.get("original_max_position_embeddings")
        orig = given or max_pos
        if given:
            k = max_pos / given
        corr = lambda r: d * math.log(orig / (2 * math.pi * r)) / (2 * math.log(theta))
        lo = max(math.floor(corr(scaling.get("beta_fast") or 32)), 0)
        hi = min(math.ceil(corr(scaling.get("beta_slow") or 1)), d - 1)
        if lo == hi:
            hi += 0.001
        ramp = np.clip((np.arange(d // 2) - lo) / (hi - lo), 0, 1)
        m = scaling.get("attention_factor")
        if m is None:
            m = 0.1 * math.log(k) + 1 if k > 1 else 1.0
        return (f / k * ramp + f * (1 - ramp)).astype(ct), m
    return f, 1.0


def rotate_half_layout(x, cos, sin):
    a, b = np.split(x, 2, -1)
    return x * cos, np.concatenate([-b, a], -1) * sin


def erf(x):
    return np.vectorize(math.erf, otypes=[np.float64])(np.asarray(x, np.float64))


def activation(name, x):
    if name == "silu":
        with np.errstate(over="ignore"):
            return x / (1 + np.exp(-x))
    if name == "gelu":
        return x * 0.5 * (1 + erf(x / math.sqrt(2)))
    if name in ("gelu_new", "gelu_pytorch_tanh"):
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    if name == "quick_gelu":
        return x / (1 + np.exp(-1.702 * x))
    if name == "relu":
        return np.maximum(x, 0)
    raise ValueError(name)
