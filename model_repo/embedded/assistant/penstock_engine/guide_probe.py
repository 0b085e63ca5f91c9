"""The process that compiles guides so that the engine doesn't have to find out (see `guides`).

Reads one JSON object a line ({"kind": ..., "text": ...}), writes one ({"wrong": "" or why}). Ends
when its input does. Its memory is bounded, and it retires after some hundred questions, because
the compiler keeps everything that it has ever compiled.
"""

from __future__ import annotations

import json
import re
import resource
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import openvino
import openvino_genai as genai

from penstock_engine.tiny_gguf import EOS, write_tiny_gguf

_QUESTIONS = 500
_SPARE_BYTES = 2 << 30
_SOURCE_LOCATION = re.compile(r"^.*?\.(?:cc|cpp|hpp|h):\d+:\s*", re.DOTALL)
_ASSERTION = re.compile(r"^Check failed: .*? is false: ", re.DOTALL)


class GuideProbe:
    """The smallest pipeline there is, used for its guide compiler alone."""

    def __init__(self) -> None:
        scheduler = genai.SchedulerConfig()
        scheduler.num_kv_blocks = 8
        scheduler.cache_size = 0
        scheduler.max_num_seqs = 1
        properties = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "probe.gguf"
            write_tiny_gguf(path)
            self._pipeline = genai.ContinuousBatchingPipeline(str(path), scheduler, "CPU", properties)

    def check(self, kind: str, text: str) -> str:
        """Compile one guide; return what is wrong with it, "" for nothing."""
        structured = genai.StructuredOutputConfig()
        setattr(structured, kind, text)
        config = genai.GenerationConfig()
        config.apply_chat_template = False
        config.max_new_tokens = 1
        config.eos_token_id = EOS
        config.stop_token_ids = {EOS}
        config.structured_output_config = structured
        wrong = ""
        handle = None
        try:
            handle = self._pipeline.add_request(0, openvino.Tensor(np.array([[0]], np.int64)), config)
            self._pipeline.step()
        except RuntimeError as exc:
            wrong = readable(str(exc))
        if handle is not None:
            handle.cancel()
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()
        return wrong


def readable(message: str) -> str:
    """The sentence in an error of GenAI or xgrammar, without its source locations."""
    message = _ASSERTION.sub("", _SOURCE_LOCATION.sub("", message.strip()))
    return " ".join(message.split())[:400]


def main() -> None:
    """Serve questions from stdin."""
    probe = GuideProbe()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _SPARE_BYTES, used + _SPARE_BYTES))
    print(json.dumps({"ready": True}), flush=True)
    for _, line in zip(range(_QUESTIONS), sys.stdin, strict=False):
        question = json.loads(line)
        print(json.dumps({"wrong": probe.check(question["kind"], question["text"])}), flush=True)


if __name__ == "__main__":
    main()
