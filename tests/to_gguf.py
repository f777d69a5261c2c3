"""Writes a tiny Qwen3 checkpoint (float32, byte-level BPE) as llama.cpp reads it.

    python tests/to_gguf.py FOLDER FILE.gguf

Runs in an environment that has gguf, which need not have torch.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import gguf
import numpy as np

WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
OF_LAYERS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def tensors(path):
    """(name, array) of each tensor of a safetensors file in float32."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    for name, told in json.loads(data[8:start]).items():
        if name != "__metadata__":
            first, last = told["data_offsets"]
            yield name, np.frombuffer(data[start + first : start + last], np.float32).reshape(told["shape"])


def renamed(name):
    """What llama.cpp calls a tensor."""
    name = name.removesuffix(".weight")
    if name in WHOLE:
        return f"{WHOLE[name]}.weight"
    _, _, layer, part = name.split(".", 3)
    return f"blk.{layer}.{OF_LAYERS[part]}.weight"


def write(folder, path):
    """The whole file: sizes, tokenizer, chat template and weights."""
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    out = gguf.GGUFWriter(str(path), "qwen3")
    out.add_context_length(config["max_position_embeddings"])
    out.add_embedding_length(config["hidden_size"])
    out.add_block_count(config["num_hidden_layers"])
    out.add_feed_forward_length(config["intermediate_size"])
    out.add_head_count(config["num_attention_heads"])
    out.add_head_count_kv(config["num_key_value_heads"])
    out.add_key_length(config["head_dim"])
    out.add_value_length(config["head_dim"])
    out.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    out.add_layer_norm_rms_eps(config["rms_norm_eps"])
    out.add_vocab_size(config["vocab_size"])
    words = {place: word for word, place in tokenizer["model"]["vocab"].items()}
    special = {one["id"] for one in tokenizer["added_tokens"] if one["special"]}
    kinds = (gguf.TokenType.NORMAL, gguf.TokenType.CONTROL)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("qwen2")
    out.add_token_list([words[place] for place in range(len(words))])
    out.add_token_types([kinds[place in special] for place in range(len(words))])
    out.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in tokenizer["model"]["merges"]])
    out.add_eos_token_id(config["eos_token_id"])
    out.add_pad_token_id(config["pad_token_id"])
    out.add_add_bos_token(False)
    out.add_chat_template((folder / "chat_template.jinja").read_text())
    for name, values in tensors(folder / "model.safetensors"):
        out.add_tensor(renamed(name), values)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


if __name__ == "__main__":
    write(*map(Path, sys.argv[1:]))
