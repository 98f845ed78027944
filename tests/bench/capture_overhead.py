"""What recording costs: forward passes of a small Qwen2 in transformers, bare and under parscope_capture; milliseconds as JSON.

usage: capture_overhead.py        (with ./dev foreign)
"""
import json
import logging
import shutil
import sys
import tempfile
from pathlib import Path

logging.disable(logging.WARNING)
import torch
import transformers

import parscope_capture
from clock import best

CONFIG = dict(hidden_size=512, intermediate_size=1408, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=2, vocab_size=8192,
              max_position_embeddings=512)


def main():
    torch.manual_seed(1)
    config = transformers.Qwen2Config(**CONFIG)
    config._attn_implementation = "eager"
    model = transformers.Qwen2ForCausalLM(config).eval()
    ids = torch.arange(128)[None] * 61 % CONFIG["vocab_size"]
    folder = Path(tempfile.mkdtemp())

    def captured():
        shutil.rmtree(folder / "trace", ignore_errors=True)
        with parscope_capture.record(model, folder / "trace"):
            model(ids)

    try:
        with torch.no_grad():
            model(ids)
            bare, recorded = best(lambda: model(ids), 5), best(captured, 3)
        size = sum(path.stat().st_size for path in (folder / "trace").rglob("*") if path.is_file())
        block = b"\1" * size

        def write():
            with open(folder / "plain", "wb") as file:
                file.write(block)

        print(json.dumps({"bare": bare, "recorded": recorded, "bytes": size, "write": best(write, 3)}))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
