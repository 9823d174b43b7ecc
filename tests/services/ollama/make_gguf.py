"""make_gguf.py FILE: writes a nomic-bert with random weights for Ollama.

It has the interface of nomic-embed-text: 768 dimensions, a context of 2048 tokens, and a
vocabulary of 30,522 tokens without capitals. Two layers instead of twelve make it fast.
"""

from __future__ import annotations

import re
import string
import sys
import sysconfig
from collections import Counter
from pathlib import Path

import gguf
import numpy as np

DIMENSIONS, FEED_FORWARD, HEADS, LAYERS, CONTEXT = 768, 3072, 12, 2, 2048
VOCABULARY = 30_522
SPECIAL = {"bos": "[CLS]", "eos": "[SEP]", "unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]"}
SPECIAL["mask"] = "[MASK]"
WORD_START = "\u2581"


def tokens() -> list[str]:
    """The special tokens, each character alone, then the most frequent words of the standard library."""
    found = ["[PAD]", *(f"[unused{n}]" for n in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    characters = string.ascii_lowercase + string.digits + string.punctuation
    found += [WORD_START + character for character in characters] + list(characters)
    counts: Counter[str] = Counter()
    for source in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        counts.update(re.findall(r"[a-z]{2,16}", source.read_text("utf-8", "replace").lower()))
    found += [WORD_START + word for word, _ in counts.most_common(VOCABULARY - len(found))]
    return found + [f"[unused{n}]" for n in range(1000, 1000 + VOCABULARY - len(found))]


def token_type(token: str) -> gguf.TokenType:
    if token == SPECIAL["unk"]:
        return gguf.TokenType.UNKNOWN
    control = len(token) > 2 and token.startswith("[") and token.endswith("]")
    return gguf.TokenType.CONTROL if control else gguf.TokenType.NORMAL


def add_settings(writer: gguf.GGUFWriter) -> None:
    writer.add_name("tiny-random-nomic")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(DIMENSIONS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_rope_freq_base(1000.0)


def add_tokenizer(writer: gguf.GGUFWriter) -> None:
    listed = tokens()
    writer.add_tokenizer_model("bert")
    writer.add_token_list(listed)
    writer.add_token_types([token_type(token) for token in listed])
    writer.add_token_type_count(2)
    for name, token in SPECIAL.items():
        getattr(writer, f"add_{name}_token_id")(listed.index(token))


def add_weights(writer: gguf.GGUFWriter) -> None:
    random = np.random.default_rng(0)

    def add(name: str, *shape: int, kind: type = np.float16) -> None:
        writer.add_tensor(name, (random.standard_normal(shape, np.float32) * 0.02).astype(kind))

    def add_norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(DIMENSIONS, np.float32))
        writer.add_tensor(f"{name}.bias", np.zeros(DIMENSIONS, np.float32))

    add("token_embd.weight", VOCABULARY, DIMENSIONS)
    add("token_types.weight", 2, DIMENSIONS, kind=np.float32)
    add_norm("token_embd_norm")
    for block in (f"blk.{layer}" for layer in range(LAYERS)):
        add(f"{block}.attn_qkv.weight", 3 * DIMENSIONS, DIMENSIONS)
        add(f"{block}.attn_output.weight", DIMENSIONS, DIMENSIONS)
        add_norm(f"{block}.attn_output_norm")
        add(f"{block}.ffn_up.weight", FEED_FORWARD, DIMENSIONS)
        add(f"{block}.ffn_gate.weight", FEED_FORWARD, DIMENSIONS)
        add(f"{block}.ffn_down.weight", DIMENSIONS, FEED_FORWARD)
        add_norm(f"{block}.layer_output_norm")


def main() -> None:
    writer = gguf.GGUFWriter(sys.argv[1], "nomic-bert")
    add_settings(writer)
    add_tokenizer(writer)
    add_weights(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
