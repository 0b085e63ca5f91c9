"""The engine: one thread that owns GenAI's continuous-batching pipeline.

Every turn: take what arrived, admit it, step the batch once, look who was cancelled, send what is
due. Only this thread touches the pipeline and, once a request is queued, its reply; so a reply is
never asked about cancellation after its final response, which would crash Triton.

What it must live with: `step()` holds the GIL; a request whose handle is dropped is dropped by
GenAI; a step that raises leaves its whole batch unusable, until all of it is cancelled.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino
import openvino_genai as genai

from penstock_engine.admission import Prompt, RequestError, Tensors, read_prompt, refuse_oversized, room_for
from penstock_engine.events import Events
from penstock_engine.guides import Guide, GuideChecker
from penstock_engine.replies import FailureKind, Reply
from penstock_engine.sampling import generation_config
from penstock_engine.sequence import Finish, Sequence
from penstock_engine.settings import ModelFacts, Settings
from penstock_engine.tokens import load_tokenizer

CANCEL_POLL_S = 0.025
_PROPERTIES: dict[str, object] = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
_STOPPING = "the model is being unloaded"


@dataclass(slots=True)
class _Running:
    """A request from its admission to its final response; without a handle while its guide is tried."""

    sequence: Sequence
    reply: Reply
    tokens: list[int]
    room: int
    handle: Any = None
    poll_at: float = 0.0
    sent_at: float = 0.0


class EngineLoop:
    """Runs requests until closed.

    Attributes:
        counts: requests by how they ended, and tokens in and out; for the log.
    """

    def __init__(
        self,
        settings: Settings,
        facts: ModelFacts,
        python: str,
        events: Events,
        log: Callable[[str], None],
    ) -> None:
        """Load the model; raises what GenAI raises if it can't.

        Args:
            python: the interpreter for the guide checker's process.
            log: takes one line.
        """
        self.counts: Counter[str] = Counter()
        self._settings = settings
        self._facts = facts
        self._events = events
        self._log = log
        self._pipeline = self._load()
        self.tokenizer = load_tokenizer(settings.folder, self._pipeline.get_tokenizer)
        self._eos_ids = facts.eos_ids or frozenset({self._pipeline.get_tokenizer().get_eos_token_id()})
        self._ids = itertools.count(1)
        self._running: dict[int, _Running] = {}
        self._arrived: deque[tuple[Tensors, Reply]] = deque()
        self._judged: deque[tuple[int, str]] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._guides = GuideChecker(python)
        self._thread = threading.Thread(target=self._run, name="engine")
        self._thread.start()

    def submit(self, requests: list[tuple[Tensors, Reply]]) -> None:
        """Queue requests; returns at once."""
        with self._wake:
            self._arrived.extend(requests)
            self._wake.notify()

    def close(self) -> None:
        """End: what still runs is failed, then the threads and the checker's process are gone."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()
        self._guides.close()

    def _load(self) -> Any:
        scheduler = genai.SchedulerConfig()
        scheduler.cache_size = 0
        scheduler.num_kv_blocks = self._settings.kv_blocks
        scheduler.max_num_batched_tokens = self._settings.max_num_batched_tokens
        scheduler.max_num_seqs = self._settings.max_num_seqs
        scheduler.enable_prefix_caching = True
        properties = {**_PROPERTIES, "INFERENCE_NUM_THREADS": self._settings.threads}
        return genai.ContinuousBatchingPipeline(str(self._settings.model_path), scheduler, "CPU", properties)

    def _run(self) -> None:
        self._warm_up()
        while True:
            with self._wake:
                while not self._has_work():
                    self._wake.wait(CANCEL_POLL_S if self._running else None)
                    if self._running:
                        break  # only guides being tried: look whether they were cancelled
                if self._closing:
                    break
                arrived, judged = list(self._arrived), list(self._judged)
                self._arrived.clear()
                self._judged.clear()
            try:
                self._turn(arrived, judged)
            except Exception as exc:  # without this thread every later request would wait for ever
                self._log(f"engine turn failed: {exc!r}")
                self._fail_all("the engine failed; the request can be sent again", "internal")
        self._fail_all(_STOPPING, "unavailable")
        for _, reply in self._arrived:
            self._tell(reply, _STOPPING, "unavailable")

    def _turn(self, arrived: list[tuple[Tensors, Reply]], judged: list[tuple[int, str]]) -> None:
        for tensors, reply in arrived:
            self._admit(tensors, reply)
        for key, wrong in judged:
            self._start_guided(key, wrong)
        if self._pipeline.has_non_finished_requests():
            self._step()
        now = time.monotonic()
        self._drop_cancelled(now)
        self._deliver(now)

    def _warm_up(self) -> None:
        """Answer nobody once: the first inference takes a tenth of a second longer than all others."""
        config = generation_config(Prompt("", max_tokens=2), 2, frozenset())
        handle = self._pipeline.add_request(0, openvino.Tensor(np.zeros((1, 8), np.int64)), config)
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()
        handle.stop()

    def _has_work(self) -> bool:
        return bool(self._closing or self._arrived or self._judged or self._pipeline.has_non_finished_requests())

    def _admit(self, tensors: Tensors, reply: Reply) -> None:
        self.counts["requests"] += 1
        self._events.write("started", reply.request_id)
        try:
            running = self._prepare(tensors, reply)
            key = next(self._ids)
            guide = running.sequence.prompt.guide
            if guide is None or self._guides.has_passed(guide):
                self._start(key, running)
            self._running[key] = running
        except RequestError as exc:
            self._refuse(reply, str(exc), "invalid")
        except Exception as exc:  # whatever one request does must not end the others
            self._fail(reply, "take the request", exc)
        else:
            if running.handle is None and guide is not None:
                self._try_guide(key, guide)

    def _prepare(self, tensors: Tensors, reply: Reply) -> _Running:
        prompt: Prompt = read_prompt(tensors)
        refuse_oversized(prompt, self.tokenizer.longest, self._facts.context)
        tokens = self.tokenizer.encode(prompt.text)
        room = room_for(len(tokens), prompt, self._facts.context)
        eos_ids = self._eos_ids
        if prompt.end_id is not None:
            eos_ids = frozenset({prompt.end_id} if prompt.end_id >= 0 else ())
        sequence = Sequence(prompt, len(tokens), eos_ids, self.tokenizer.detokenizer(), self.tokenizer.token_bytes)
        self.counts["tokens in"] += len(tokens)
        return _Running(sequence, reply, tokens, room, poll_at=time.monotonic() + CANCEL_POLL_S)

    def _start(self, key: int, running: _Running) -> None:
        sequence = running.sequence
        running.handle = self._pipeline.add_request(
            key,
            openvino.Tensor(np.array([running.tokens], np.int64)),
            generation_config(sequence.prompt, running.room, sequence.eos_ids),
        )

    def _try_guide(self, key: int, guide: Guide) -> None:
        def answer(wrong: str) -> None:
            with self._wake:
                self._judged.append((key, wrong))
                self._wake.notify()

        self._guides.ask(guide, answer)

    def _start_guided(self, key: int, wrong: str) -> None:
        running = self._running.get(key)
        if running is None:
            return  # cancelled meanwhile
        if wrong:
            del self._running[key]
            self._refuse(running.reply, f"guided_decoding_guide is refused: {wrong}", "invalid")
            return
        try:
            self._start(key, running)
        except Exception as exc:  # as in _admit
            del self._running[key]
            self._fail(running.reply, "take the request", exc)

    def _step(self) -> None:
        try:
            self._pipeline.step()
        except RuntimeError as exc:
            self._log(f"engine step failed, ending {len(self._running)} requests: {exc}")
            self._fail_all("the engine failed in a step; the request can be sent again", "internal")
            self._recover()

    def _recover(self) -> None:
        """Empty the pipeline of a failed batch; if it won't be emptied, load it anew."""
        try:
            while self._pipeline.has_non_finished_requests():
                self._pipeline.step()
        except RuntimeError as exc:
            self._log(f"engine did not recover, loading the model again: {exc}")
            self._pipeline = self._load()

    def _refuse(self, reply: Reply, message: str, kind: FailureKind) -> None:
        self.counts["refused"] += 1
        self._events.write("failed", reply.request_id)
        self._tell(reply, message, kind)

    def _fail(self, reply: Reply, what: str, exc: Exception) -> None:
        self.counts["failed"] += 1
        self._events.write("failed", reply.request_id)
        self._log(f"the engine could not {what}: {exc!r}")
        self._tell(reply, f"the engine could not {what}", "internal")

    def _fail_all(self, message: str, kind: FailureKind) -> None:
        while self._running:
            _, running = self._running.popitem()
            if running.handle is not None:
                running.handle.cancel()
            self.counts["failed"] += 1
            self._events.write("failed", running.reply.request_id)
            self._tell(running.reply, message, kind)

    def _tell(self, reply: Reply, message: str, kind: FailureKind) -> None:
        try:
            reply.fail(message, kind)
        except Exception as exc:  # Triton is going down: there is nobody else to tell
            self._log(f"could not send an error: {exc!r}")

    def _drop_cancelled(self, now: float) -> None:
        for key, running in list(self._running.items()):
            if now < running.poll_at:
                continue
            running.poll_at = now + CANCEL_POLL_S
            if running.reply.is_cancelled():
                if running.handle is not None:
                    running.handle.cancel()
                self._end(key, running, "cancelled")

    def _deliver(self, now: float) -> None:
        pause = max(self._settings.coalesce_s, len(self._running) / self._settings.max_messages_per_s)
        for key, running in list(self._running.items()):
            if running.handle is None:
                continue
            try:
                self._deliver_one(key, running, now, pause)
            except Exception as exc:  # as in _admit
                running.handle.cancel()
                if self._running.pop(key, None) is not None:
                    self._fail(running.reply, "deliver the answer", exc)

    def _deliver_one(self, key: int, running: _Running, now: float, pause: float) -> None:
        handle, sequence = running.handle, running.sequence
        status = handle.get_status()  # before reading: nothing can be added to a finished one
        reason = genai.GenerationFinishReason.NONE
        while handle.can_read():
            for output in handle.read().values():
                sequence.feed(output.generated_ids, output.generated_log_probs)
                reason = output.finish_reason
        if status == genai.GenerationStatus.IGNORED:
            del self._running[key]
            self._refuse(running.reply, "the request needs more KV cache than there is", "unavailable")
        elif sequence.finish is not None:
            handle.stop()
            self._end(key, running, sequence.finish)
        elif status != genai.GenerationStatus.RUNNING:
            length = reason == genai.GenerationFinishReason.LENGTH
            self._end(key, running, "length" if length else "stop")
        elif sequence.is_due and now - running.sent_at >= pause:
            running.sent_at = now
            running.reply.send(sequence.take(), sequence)

    def _end(self, key: int, running: _Running, finish: Finish) -> None:
        del self._running[key]
        sequence = running.sequence
        sequence.end(finish)
        self.counts[finish] += 1
        self.counts["tokens out"] += sequence.output_tokens
        self._events.write(
            "cancelled" if finish == "cancelled" else "finished",
            running.reply.request_id,
            how=finish,
            tokens=sequence.output_tokens,
        )
        running.reply.finish(sequence.take(), sequence)
