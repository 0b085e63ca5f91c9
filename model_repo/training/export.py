"""Turns a training checkpoint into the folder of a version: GGUF, configuration, tokenizer."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from gguf_file import write_gguf

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
SPECIAL_IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def build_config(shape: dict[str, Any]) -> dict[str, Any]:
    """A config.json with which ``transformers`` loads the same model."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **shape,
        **SPECIAL_IDS,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "rope_scaling": None,
        "torch_dtype": "float32",
        "use_cache": True,
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def export(checkpoint: Path, tokenizer: Path, out: Path, name: str, safetensors: bool) -> None:
    state = torch.load(checkpoint, weights_only=True)
    config = build_config(state["config"])
    weights = {f"model.{key}": value.float().contiguous() for key, value in state["model"].items()}
    out.mkdir(parents=True, exist_ok=True)
    for file in TOKENIZER_FILES:
        shutil.copyfile(tokenizer / file, out / file)
    _write_json(out / "config.json", config)
    _write_json(out / "generation_config.json", {**SPECIAL_IDS, "do_sample": False})
    write_gguf(out / "model.gguf", name, {key: value.numpy() for key, value in weights.items()}, config, out)
    if safetensors:
        from safetensors.torch import save_file

        save_file(weights, out / "model.safetensors", metadata={"format": "pt"})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python model_repo/training/export.py --checkpoint runs/v2/step-002000.pt "
        "--tokenizer runs/tokenizer --out model_repo/embedded/assistant/2 --name assistant-2",
    )
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder that tokenizer.py wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", default="penstock-assistant")
    parser.add_argument("--safetensors", action="store_true", help="also write model.safetensors (15 MB, float32)")
    options = parser.parse_args()
    export(options.checkpoint, options.tokenizer, options.out, options.name, options.safetensors)
    print(f"{(options.out / 'model.gguf').stat().st_size / 1e6:.2f} MB in {options.out}")


if __name__ == "__main__":
    main()
