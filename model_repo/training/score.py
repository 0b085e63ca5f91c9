"""Scores a version on held-out questions: exact match per task, as a table or as JSON.

Runs what is shipped, the GGUF on OpenVINO GenAI in float32, greedily. Needs only ``openvino_genai``
(and numpy, which it brings), so it works in the embedded Triton's environment.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import openvino_genai as genai
from corpus import mix
from corpus.sample import Sample, prompt_text

EOS_ID = 2
PROPERTIES = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
_IN_FLIGHT = 32
_MARGIN = 16
_LONGEST_SHOWN = 400


class Engine:
    """Greedy generation in batches."""

    def __init__(self, model: Path) -> None:
        scheduler = genai.SchedulerConfig()
        scheduler.num_kv_blocks = 3072
        scheduler.cache_size = 0
        scheduler.max_num_batched_tokens = 512
        scheduler.max_num_seqs = _IN_FLIGHT
        self._pipeline = genai.ContinuousBatchingPipeline(str(model), scheduler, "CPU", PROPERTIES)
        self._tokenizer = self._pipeline.get_tokenizer()
        self._next_id = 0

    def _tokens(self, text: str) -> int:
        return int(self._tokenizer.encode(text, add_special_tokens=False).input_ids.shape[1])

    def _start(self, sample: Sample) -> Any:
        config = genai.GenerationConfig()
        config.max_new_tokens = self._tokens(sample.answer) + _MARGIN
        config.eos_token_id = EOS_ID
        config.stop_token_ids = {EOS_ID}
        config.apply_chat_template = False
        self._next_id += 1
        return self._pipeline.add_request(self._next_id, prompt_text(sample.messages[:-1]), config)

    def answer(self, samples: list[Sample]) -> list[str]:
        """One answer per sample. Room for a few tokens more than expected shows an answer that runs on."""
        handles = [self._start(sample) for sample in samples]
        generated: list[list[int]] = [[] for _ in handles]
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()
            for tokens, handle in zip(generated, handles, strict=True):
                while handle.can_read():
                    for output in handle.read().values():
                        tokens += output.generated_ids
        return [str(self._tokenizer.decode(tokens)) for tokens in generated]


def _show_miss(sample: Sample, got: str) -> None:
    print(f"--- {sample.task}\n{prompt_text(sample.messages[:-1])[-_LONGEST_SHOWN:]}", file=sys.stderr)
    print(f"want: {sample.answer[:_LONGEST_SHOWN]}\n got: {got[:_LONGEST_SHOWN]}", file=sys.stderr)


def score(engine: Engine, task: str, samples: int, seed: int, misses: int) -> float:
    """The share of samples that are answered exactly, spaces at the ends aside."""
    tests = mix.held_out(task, samples, seed)
    wrong = []
    for start in range(0, samples, _IN_FLIGHT):
        part = tests[start : start + _IN_FLIGHT]
        answers = engine.answer(part)
        wrong += [(s, got) for s, got in zip(part, answers, strict=True) if got.strip() != s.answer.strip()]
    for sample, got in wrong[:misses]:
        _show_miss(sample, got)
    return 1 - len(wrong) / samples


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python model_repo/training/score.py --model model_repo/embedded/assistant/2 --samples 200",
    )
    parser.add_argument("--model", type=Path, required=True, help="folder of a version, with model.gguf")
    parser.add_argument("--samples", type=int, default=200, help="questions per task")
    parser.add_argument("--task", action="append", choices=list(mix.SCORED), help="only this task; may be repeated")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--misses", type=int, default=0, help="show so many wrong answers per task on stderr")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args()
    began = time.monotonic()
    engine = Engine(options.model / "model.gguf")
    scores: dict[str, float] = {}
    for task in options.task or mix.SCORED:
        scores[task] = round(score(engine, task, options.samples, options.seed, options.misses), 3)
        if not options.json:
            print(f"{task:<16}{scores[task]:>7.3f}", flush=True)
    seconds = round(time.monotonic() - began, 1)
    if options.json:
        print(json.dumps({"model": str(options.model), "samples": options.samples, "seed": options.seed,
                          "seconds": seconds, "exact_match": scores}))  # fmt: skip
    else:
        print(f"{options.samples} samples per task, seed {options.seed}, {seconds} s")


if __name__ == "__main__":
    main()
