"""The engine's pure modules: no Triton, no OpenVINO. The live ones are tested in test_assistant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock_engine.admission import Prompt, RequestError, read_prompt, refuse_oversized, room_for
from penstock_engine.detokenize import ByteDetokenizer, WindowDetokenizer, byte_letters, byte_level_table
from penstock_engine.gguf_header import GgufError, read_gguf_metadata
from penstock_engine.guides import Guide
from penstock_engine.schema_grammar import schema_grammar
from penstock_engine.sequence import Sequence
from penstock_engine.settings import ModelFacts, Settings, SettingsError
from penstock_engine.stopping import StopMatcher
from penstock_engine.tiny_gguf import EOS, write_tiny_gguf

LETTERS = [chr(code) for code in byte_letters()]
BYTES = [bytes([byte]) for byte in range(256)]


def tensors(**values: Any) -> dict[str, Any]:
    """Inputs as Triton hands them over: [1, N]."""
    kinds = {str: np.object_, bytes: np.object_, int: np.int32, float: np.float32, bool: np.bool_}
    made = {}
    for name, value in {"text_input": "hi", "max_tokens": 8, **values}.items():
        items = value if isinstance(value, list) else [value]
        raw = [item.encode() if isinstance(item, str) else item for item in items]
        made[name] = np.array([raw], np.uint64 if name == "seed" else kinds[type(items[0])])
    return made


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({}, {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "seed": None, "echo": True, "stream": False}),
        ({"temperature": 0.7}, {"temperature": 0.7}),
        ({"top_p": 0.9}, {"temperature": 1.0, "top_p": 0.9}),
        ({"top_k": 40}, {"temperature": 1.0, "top_k": 40}),
        ({"top_k": 1, "temperature": 1.5}, {"temperature": 0.0}),
        ({"top_p": 0.0, "temperature": 1.5}, {"temperature": 0.0}),
        ({"top_p": 0.0, "top_k": 5}, {"temperature": 1.0, "top_p": 1.0, "top_k": 5}),
        ({"seed": 2**64 - 1}, {"seed": 2**64 - 1}),
        ({"stop_words": ["a", "", "b"]}, {"stop_words": ("a", "b")}),
        ({"exclude_input_in_output": True, "stream": True}, {"echo": False, "stream": True}),
        ({"end_id": -1}, {"end_id": -1}),
        (
            {"guided_decoding_guide_type": "json"},
            {"guide": Guide("grammar", schema_grammar('{"type": "object"}') or "")},
        ),
        (
            {"guided_decoding_guide_type": "json_schema", "guided_decoding_guide": '{"not": {}}'},
            {"guide": Guide("json_schema", '{"not": {}}')},
        ),
        ({"guided_decoding_guide_type": "", "guided_decoding_guide": ""}, {"guide": None}),
        (
            {"guided_decoding_guide_type": "ebnf_grammar", "guided_decoding_guide": "root ::= x"},
            {"guide": Guide("grammar", "root ::= x")},
        ),
    ],
)
def test_prompt_means(inputs: dict[str, Any], expected: dict[str, Any]) -> None:
    prompt = read_prompt(tensors(**inputs))
    assert {name: getattr(prompt, name) for name in expected} == expected


def test_missing_inputs_are_named() -> None:
    for name in ("text_input", "max_tokens"):
        given_inputs = tensors()
        del given_inputs[name]
        with pytest.raises(RequestError, match=f"{name} is missing"):
            read_prompt(given_inputs)


def test_room() -> None:
    prompt = Prompt("x", max_tokens=50)
    assert [room_for(size, prompt, 100) for size in (1, 50, 51, 99)] == [50, 50, 49, 1]
    with pytest.raises(RequestError, match="the prompt has 100 tokens, but this model's context is 100 tokens"):
        room_for(100, prompt, 100)
    refuse_oversized(Prompt("x" * 299, max_tokens=1), 3, 100)
    refuse_oversized(Prompt("x" * 10**6, max_tokens=1), 0, 100)
    with pytest.raises(RequestError, match="the prompt has more than 99 tokens"):
        refuse_oversized(Prompt("x" * 300, max_tokens=1), 3, 100)


@given(st.text(), st.lists(st.integers(1, 5), min_size=1))
def test_bytes_in_any_cut_give_the_text(text: str, sizes: list[int]) -> None:
    raw = text.encode()
    table, tokens, at = list(BYTES), [], 0
    while at < len(raw):
        size = sizes[at % len(sizes)]
        table.append(raw[at : at + size])
        tokens.append(len(table) - 1)
        at += size
    detokenizer = ByteDetokenizer(table)
    parts = [detokenizer.push(token) for token in tokens]
    assert "".join(parts) == text
    assert "\ufffd" in text or "\ufffd" not in "".join(parts)


def test_half_a_character_is_held_and_garbage_replaced() -> None:
    detokenizer = ByteDetokenizer(BYTES)
    assert [detokenizer.push(byte) for byte in "é".encode()] == ["", "é"]
    assert [detokenizer.push(byte) for byte in b"\xff\xe6a"] == ["\ufffd", "", "\ufffda"]
    assert detokenizer.push(999) == ""


@given(st.text(alphabet="ab é日🙂 ", max_size=30))
def test_window_detokenizer_gives_the_text(text: str) -> None:
    raw = text.encode()
    detokenizer = WindowDetokenizer(lambda ids: bytes(ids).decode("utf-8", "replace"))
    assert "".join(detokenizer.push(byte) for byte in raw) == text


def test_window_detokenizer_where_neighbours_matter() -> None:
    def decode(ids: list[int]) -> str:  # as SentencePiece: the first word loses its space
        return "".join([" one", " two", "three"][token] for token in ids).lstrip()

    detokenizer = WindowDetokenizer(decode)
    assert [detokenizer.push(token) for token in (0, 1, 2, 1)] == ["one", " two", "three", " two"]


def test_byte_level_table() -> None:
    vocabulary = {LETTERS[0xE6] + LETTERS[0x97]: 0, "Ġhi": 1, "<s>": 2, "<b>": 3}
    tokenizer = {
        "decoder": {"type": "ByteLevel"},
        "model": {"vocab": vocabulary},
        "added_tokens": [{"id": 2, "special": True, "content": "<s>"}, {"id": 3, "special": False, "content": "<b>"}],
    }
    assert byte_level_table(tokenizer) == [b"\xe6\x97", b" hi", b"", b"<b>"]
    assert byte_level_table({**tokenizer, "decoder": {"type": "Sequence", "decoders": [{"type": "Metaspace"}]}}) is None
    assert byte_level_table({**tokenizer, "decoder": None}) is None


@pytest.mark.parametrize(
    ("stops", "parts", "sent", "stopped"),
    [
        (["END"], ["a E", "N", "D b"], ["a ", "", ""], True),
        (["END"], ["a EN", "x"], ["a ", "ENx"], False),
        (["b", "ab"], ["xab"], ["x"], True),
        (["aab"], ["aa", "ab"], ["", "a"], True),
        ([], ["x"], ["x"], False),
        ([""], ["x"], ["x"], False),
        (["\n\n"], ["a\n", "b\n", "\nc"], ["a", "\nb", ""], True),
    ],
)
def test_stop_words(stops: list[str], parts: list[str], sent: list[str], stopped: bool) -> None:
    matcher = StopMatcher(stops)
    pushed = [matcher.push(part) for part in parts]
    assert [text for text, _ in pushed] == sent
    assert pushed[-1][1] is stopped


@given(st.text(alphabet="ab", max_size=40), st.lists(st.text(alphabet="ab", max_size=4), max_size=3), st.integers(1, 7))
def test_stop_words_in_any_cut(text: str, stops: list[str], size: int) -> None:
    matcher = StopMatcher(stops)
    sent, stopped = "", False
    for at in range(0, len(text), size):
        part, stopped = matcher.push(text[at : at + size])
        sent += part
        if stopped:
            break
    hits = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop and stop in text]
    if hits:
        assert (sent, stopped) == (text[: min(hits)[1]], True)
    else:
        assert not stopped
        assert sent + matcher.flush() == text


def test_sequence_counts_and_ends() -> None:
    prompt = Prompt("p", max_tokens=9, stop_words=("cd",), log_probs=True, echo=False, stream=True)
    sequence = Sequence(prompt, 3, frozenset({EOS}), ByteDetokenizer(BYTES), lambda token: BYTES[token])
    sequence.feed(b"ab", [-1.0, -2.0])
    first = sequence.take()
    assert (first.text, first.tokens, first.token_bytes, first.total_log_prob) == ("ab", 2, (b"a", b"b"), -3.0)
    sequence.feed(b"c", [-1.0])
    assert not sequence.is_due, "it may become the stop word"
    sequence.feed([*b"d", *b"e"], [-1.0, -1.0])
    last = sequence.take()
    assert (last.text, last.tokens, sequence.finish, sequence.output_tokens) == ("", 2, "stop", 4)


def test_sequence_ends_at_eos_which_is_no_token() -> None:
    sequence = Sequence(Prompt("p", max_tokens=9), 1, frozenset({EOS}), ByteDetokenizer(BYTES), lambda _: b"")
    sequence.feed([97, EOS], [0.0, 0.0])
    sequence.end("stop")
    assert (sequence.take().text, sequence.output_tokens) == ("pa", 1)


def test_tiny_gguf_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_tiny_gguf(path)
    header = read_gguf_metadata(path)
    assert header["llama.context_length"] == 64
    assert header["tokenizer.ggml.eos_token_id"] == EOS
    assert "tokenizer.ggml.tokens" not in header
    settings = Settings.read({"kv_blocks": "1"}, tmp_path)
    assert ModelFacts.read(settings) == ModelFacts(context=32, eos_ids=frozenset({EOS})), "one block of KV cache"
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 20, "eos_token_id": [1, 2]}))
    assert ModelFacts.read(settings) == ModelFacts(context=20, eos_ids=frozenset({1, 2}))


@pytest.mark.parametrize("damage", [b"", b"GGUF", b"GGML" + bytes(60), b"GGUF\x03\0\0\0" + b"\x01" * 12])
def test_damaged_gguf(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(damage)
    with pytest.raises(GgufError, match=r"model\.gguf"):
        read_gguf_metadata(path)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "no model at .*model.gguf: put a .gguf file or an OpenVINO folder there"),
        ({"model_path": "1", "kv_block": "5"}, "unknown parameter 'kv_block'; known are"),
        ({"model_path": "1", "kv_blocks": "many"}, "parameter kv_blocks is 'many', not a whole number"),
        ({"model_path": "1", "max_num_seqs": "0"}, "parameter max_num_seqs is 0; the least is 1"),
    ],
)
def test_bad_settings(tmp_path: Path, parameters: dict[str, str], message: str) -> None:
    (tmp_path / "1").mkdir()
    with pytest.raises(SettingsError, match=message):
        Settings.read(parameters, tmp_path)
