"""Write the smallest language model that GenAI will load: one layer, 259 tokens, about 60 kB.

It exists so that guides can be compiled somewhere other than in the engine (see `guide_probe`).
Its weights are zeros: nobody reads what it says. Tokens are the 256 bytes plus pad, bos and eos.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from penstock_engine.detokenize import byte_letters

EOS = 258
_WIDTH, _HIDDEN, _HEADS = 32, 32, 1
_UINT32, _FLOAT, _BOOL, _STRING, _ARRAY, _INT32 = 4, 6, 7, 8, 9, 5
_F32, _F16, _ALIGNMENT = 0, 1, 32


def write_tiny_gguf(path: Path) -> None:
    """Write the model to `path` (a .gguf file)."""
    tokens = [chr(code) for code in byte_letters()] + ["<pad>", "<s>", "</s>"]
    entries: list[tuple[str, int, Any]] = [
        ("general.architecture", _STRING, "llama"),
        ("general.file_type", _UINT32, 1),
        ("llama.context_length", _UINT32, 64),
        ("llama.embedding_length", _UINT32, _WIDTH),
        ("llama.block_count", _UINT32, 1),
        ("llama.feed_forward_length", _UINT32, _HIDDEN),
        ("llama.attention.head_count", _UINT32, _HEADS),
        ("llama.attention.head_count_kv", _UINT32, _HEADS),
        ("llama.rope.dimension_count", _UINT32, _WIDTH // _HEADS),
        ("llama.attention.layer_norm_rms_epsilon", _FLOAT, 1e-5),
        ("llama.rope.freq_base", _FLOAT, 10000.0),
        ("llama.vocab_size", _UINT32, len(tokens)),
        ("tokenizer.ggml.model", _STRING, "gpt2"),
        ("tokenizer.ggml.pre", _STRING, "qwen2"),
        ("tokenizer.ggml.tokens", _ARRAY, (_STRING, tokens)),
        ("tokenizer.ggml.token_type", _ARRAY, (_INT32, [1] * 256 + [3] * 3)),
        ("tokenizer.ggml.merges", _ARRAY, (_STRING, [f"{tokens[97]} {tokens[98]}"])),
        ("tokenizer.ggml.bos_token_id", _UINT32, 257),
        ("tokenizer.ggml.eos_token_id", _UINT32, EOS),
        ("tokenizer.ggml.padding_token_id", _UINT32, 256),
        ("tokenizer.ggml.add_bos_token", _BOOL, False),
    ]
    block = {"attn_q": (_WIDTH, _WIDTH), "attn_k": (_WIDTH, _WIDTH), "attn_v": (_WIDTH, _WIDTH),
             "attn_output": (_WIDTH, _WIDTH), "ffn_gate": (_WIDTH, _HIDDEN),
             "ffn_up": (_WIDTH, _HIDDEN), "ffn_down": (_HIDDEN, _WIDTH),
             "attn_norm": (_WIDTH,), "ffn_norm": (_WIDTH,)}  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (_WIDTH, len(tokens)), "output_norm": (_WIDTH,)}
    shapes |= {f"blk.0.{name}": shape for name, shape in block.items()}
    header = struct.pack("<4sIQQ", b"GGUF", 3, len(shapes), len(entries))
    header += b"".join(_text(key) + _value(kind, value) for key, kind, value in entries)
    offset = 0
    for name, shape in shapes.items():
        header += _text(name + ".weight") + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        header += struct.pack("<IQ", _F32 if len(shape) == 1 else _F16, offset)
        offset += _padded(_size(shape))
    path.write_bytes(header.ljust(_padded(len(header)), b"\0") + bytes(offset))


def _size(shape: tuple[int, ...]) -> int:
    """Bytes of a tensor: vectors are f32, matrices f16 (GenAI takes no f32 matrices)."""
    return 4 * shape[0] if len(shape) == 1 else 2 * shape[0] * shape[1]


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(kind: int, value: Any) -> bytes:
    """A value with its type in front, as in the key-value section."""
    return struct.pack("<I", kind) + _payload(kind, value)


def _payload(kind: int, value: Any) -> bytes:
    if kind == _STRING:
        return _text(value)
    if kind == _ARRAY:
        element, items = value
        body = b"".join(_payload(element, item) for item in items)
        return struct.pack("<IQ", element, len(items)) + body
    return struct.pack({_UINT32: "<I", _INT32: "<i", _FLOAT: "<f", _BOOL: "<?"}[kind], value)
