"""Small random models and the programs (prefill, chunk, decode, reorder) that are run on them. Everything is drawn from a seed."""
import zlib

import numpy as np

from files_np import Num

SHAPES = [(6, 2, 8), (4, 2, 10), (8, 2, 8), (6, 3, 12), (8, 4, 8), (4, 2, 16)]  # heads, key/value heads, head_dim


def rng_of(*parts):
    return np.random.default_rng(zlib.crc32("/".join(map(str, parts)).encode()))


def config_of(family, seed, dtype):
    """config.json of one model. family: what follows the first '-' are its traits."""
    rng = rng_of("config", family, seed)
    kind, *traits = family.split("-")
    tp = "tp" in traits or "tp4" in traits
    shapes = [s for s in SHAPES if not tp or s[1] % 2 == 0]
    H, K, d = (8, 2, 8) if "tp4" in traits else shapes[int(rng.integers(len(shapes)))]
    square = kind in ("xa", "xkv") or "square" in traits or tp or (seed % 2 == 0 and "wide" not in traits)
    hidden = H * d if square else int(rng.choice([x for x in (36, 44, 52, 60) if x != H * d]))
    types = {"ps": ("qwen2_parscale", "Qwen2ParScaleForCausalLM"), "xa": ("parscale_cross_attn", "ParScaleCrossAttnForCausalLM"),
             "xkv": ("parscale_cross_attn", "ParScaleCrossKVForCausalLM"), "xb": ("parscale_base", "ParScaleBaseForCausalLM"),
             "qwen2": ("qwen2", "Qwen2ForCausalLM"), "qwen3": ("qwen3", "Qwen3ForCausalLM"), "llama": ("llama", "LlamaForCausalLM")}
    model_type, arch = types[kind]
    c = {"architectures": [arch], "model_type": model_type, "torch_dtype": Num(dtype).torch, "vocab_size": 98 if tp else 97,
         "hidden_size": hidden, "intermediate_size": int(rng.choice([46, 58]) if tp else rng.choice([37, 43, 53])),
         "num_hidden_layers": 3 if "l3" in traits or seed % 2 else 2, "num_attention_heads": H, "num_key_value_heads": K,
         "hidden_act": "gelu" if "gelu" in traits else "silu", "max_position_embeddings": 512, "rms_norm_eps": 1e-5 if "eps5" in traits else 1e-6,
         "use_cache": True, "tie_word_embeddings": False, "rope_theta": 1e6 if "theta" in traits else 10000.0, "rope_scaling": None,
         "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    if not square or kind == "qwen3":
        c["head_dim"] = d
    if kind in ("ps", "xa", "xkv", "xb"):
        n = 1 if kind == "xb" or "p1" in traits else int(rng.integers(2, 5))
        c.update(parscale_n=n, parscale_n_tokens=0 if "t0" in traits else int(rng.integers(2, 5)),
                 parscale_attn_smooth=float(rng.choice([0.01, 0.1, 0.2])), use_sliding_window=False, sliding_window=None, max_window_layers=28)
    if kind in ("xa", "xkv"):
        c.update(enable_cross_attn=True, enable_xkv_attn=False, parscale_cross_attn_layers=[1] if kind == "xkv" else [0, c["num_hidden_layers"] - 1],
                 enable_replica_rope="rr" in traits)
    if kind == "xkv":
        c["xkv_causal"] = True
    if kind in ("qwen2", "qwen3"):
        c.update(use_sliding_window="win" in traits or "mix" in traits, sliding_window=int(rng.integers(3, 6)),
                 max_window_layers=1 if "mix" in traits else 0 if "win" in traits else 28)
        if not c["use_sliding_window"]:
            c["sliding_window"] = None
    if kind in ("llama", "qwen3"):
        c.update(attention_bias="bias" in traits)
    if kind == "llama":
        c.update(mlp_bias="bias" in traits)
    if "linear" in traits:
        c["rope_scaling"] = {"rope_type": "linear", "factor": 2.5}
    if "llama3" in traits:
        c["rope_scaling"] = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                             "original_max_position_embeddings": 32}
    if "yarn" in traits:
        c.update(max_position_embeddings=64, rope_scaling={"rope_type": "yarn", "factor": 4.0})
    return c


def weights_of(c, family, seed, dtype):
    """Weights as float32 values of the checkpoint's dtype. Biases are not zero and norm weights are not one."""
    rng, num = rng_of("weights", family, seed), Num(dtype)
    traits = family.split("-")[1:]
    h, I, V, H, K = c["hidden_size"], c["intermediate_size"], c["vocab_size"], c["num_attention_heads"], c["num_key_value_heads"]
    d = c.get("head_dim") or h // H
    n, T = c.get("parscale_n", 1), c.get("parscale_n_tokens", 0)
    w = {}

    def linear(name, out, inp, bias=False):
        w[name + ".weight"] = rng.normal(0, inp**-0.5, (out, inp))
        if bias:
            w[name + ".bias"] = rng.normal(0, 0.4, out)

    def norm(name, size):
        w[name + ".weight"] = np.full(size, 1.25) if "flatnorm" in traits and name.endswith(("q_norm", "k_norm")) else 1 + 0.3 * rng.normal(size=size)

    # rows of small energy, so that epsilon can be seen
    w["model.embed_tokens.weight"] = rng.normal(size=(V, h)) * np.exp(rng.uniform(np.log(0.01), 0, (V, 1)))
    if "zeroembed" in traits:
        w["model.embed_tokens.weight"][0] = 0
    if "massive" in traits:
        w["model.embed_tokens.weight"][::2, 3] = 700.0
    qkv_bias = c["model_type"] not in ("llama", "qwen3") or c.get("attention_bias", False)
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        crossed = c.get("enable_cross_attn") and c["architectures"][0] == "ParScaleCrossAttnForCausalLM" and i in c["parscale_cross_attn_layers"]
        if crossed:
            norm(p + "cross_replica_layernorm", h)
            for q, heads in (("q", H), ("k", K), ("v", K)):
                linear(f"{p}cross_replica_attn.{q}_proj", heads * (h // H), h, True)
            linear(p + "cross_replica_attn.o_proj", h, h)
        norm(p + "input_layernorm", h)
        norm(p + "post_attention_layernorm", h)
        for q, heads in (("q", H), ("k", K), ("v", K)):
            linear(f"{p}self_attn.{q}_proj", heads * d, h, qkv_bias)
        linear(p + "self_attn.o_proj", h, H * d, c.get("attention_bias", False))
        if c["model_type"] == "qwen3":
            norm(p + "self_attn.q_norm", d)
            norm(p + "self_attn.k_norm", d)
        xkv = c["architectures"][0] == "ParScaleCrossKVForCausalLM" and i in c["parscale_cross_attn_layers"]
        if T and not xkv and (n > 1 or c["model_type"].startswith("parscale_")):
            for kv in "kv":
                prefix = rng.normal(size=(n, K, T, d))
                w[f"{p}self_attn.prefix_{kv}"] = np.repeat(prefix[:1], n, 0) if "sameprefix" in traits else prefix
        for g, out, inp in (("gate", I, h), ("up", I, h), ("down", h, I)):
            linear(f"{p}mlp.{g}_proj", out, inp, c.get("mlp_bias", False))
        if "overflow" in traits and i == 0:
            w[p + "mlp.down_proj.weight"][5] *= 2e5
    norm("model.norm", h)
    if n > 1:
        linear("model.aggregate_layer.0", h, n * h, True)
        linear("model.aggregate_layer.2", n, h, True)
        w["model.aggregate_layer.2.weight"] *= 3
    w["lm_head.weight"] = rng.normal(0, h**-0.5, (V, h))
    return {k: num.r(v.astype(np.float32)) for k, v in w.items()}


def program_of(name, family, seed, vocab):
    """Steps with their inputs. Left padding is ragged, one row has none; pad slots hold token 0 and position 1."""
    rng = rng_of("program", name, family, seed)
    B = int(rng.integers(2, 4))
    S0 = int(rng.integers(8, 11))
    if name == "beam":
        B = 3
    if name == "one":
        plan = [1, 1, 1]
    elif name == "decode":
        plan = [S0, 1, 1]
    elif name == "beam":
        plan = [S0, "reorder", 1, "reorder", 1]
    else:
        plan = [S0, 2, 1, 1] if seed % 2 == 0 else [S0, 1, 3, 1]
    pads = rng.permutation([0, 3, 5][:B]) if B > 2 else rng.permutation([0, 3])
    if name.startswith("nopad") or name in ("one", "zerotoken"):
        pads = np.zeros(B, int)
    mask = (np.arange(S0 if name != "one" else 1)[None] >= pads[:, None]).astype(np.int64)
    shift = 300 if name == "long" else 0
    same = name == "samepos"  # every position 0: RoPE is the identity
    steps, past = [], 0
    beams = [[1, 1, 0], [2, 0, 2]]
    for n in plan:
        if n == "reorder":
            idx = np.array(beams.pop(0))
            steps.append({"op": "reorder_cache", "beam_idx": idx})
            mask = mask[idx]
            continue
        if past:
            mask = np.concatenate([mask, np.ones((B, n), np.int64)], 1)
        ids = rng.integers(1, vocab, (B, n))
        ids[mask[:, past:] == 0] = 0
        if name == "zerotoken" and past == 0:
            ids[B - 1, 4] = 0
        pos = np.clip(np.cumsum(mask, 1) - 1, 0, None)[:, past:] + shift
        pos[mask[:, past:] == 0] = 1
        st = {"op": "forward", "input_ids": ids, "attention_mask": mask.copy(), "position_ids": np.zeros_like(pos) if same else pos}
        if name == "nopad-bare":
            st["attention_mask"] = st["position_ids"] = None
        steps.append(st)
        past += n
    return steps
