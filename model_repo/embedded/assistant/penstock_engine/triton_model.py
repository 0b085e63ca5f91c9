"""Triton's three calls. `execute` copies the tensors out and returns; the engine's thread answers."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb

from penstock_engine.admission import Tensors
from penstock_engine.events import Events
from penstock_engine.loop import EngineLoop
from penstock_engine.responses import TritonReply
from penstock_engine.settings import ModelFacts, Settings

_GIL_SHARE_S = 0.001
"""How soon a thread may ask for the GIL: between two engine steps, `execute` must get in."""


class TritonPythonModel:
    """One version of one model, in a process of its own."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model; READY means that it can answer."""
        began = time.monotonic()
        sys.setswitchinterval(_GIL_SHARE_S)
        config = json.loads(args["model_config"])
        self._name = f"{args['model_name']} version {args['model_version']}"
        events = Events(f"{args['model_name']}:{args['model_version']}")
        self._inputs = [tensor["name"] for tensor in config["input"]]
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        version_dir = Path(args["model_repository"]) / args["model_version"]
        settings = Settings.read(parameters, version_dir)
        facts = ModelFacts.read(settings)
        self._engine = EngineLoop(settings, facts, _interpreter(), events, self._log)
        self._log(
            f"ready in {time.monotonic() - began:.2f} s: {settings.model_path.name},"
            f" context {facts.context}, {self._engine.tokenizer}"
        )

    def execute(self, requests: list[Any]) -> None:
        """Queue the requests; their answers go through their response senders."""
        self._engine.submit([(self._copy(request), _reply(request)) for request in requests])

    def finalize(self) -> None:
        """End the engine's threads and processes, and log what they did."""
        self._engine.close()
        counts = ", ".join(f"{name} {count}" for name, count in sorted(self._engine.counts.items()))
        self._log(f"unloaded: {counts or 'no requests'}")

    def _copy(self, request: Any) -> Tensors:
        """The tensors live in shared memory that is Triton's again once the request is released."""
        found = ((name, pb.get_input_tensor_by_name(request, name)) for name in self._inputs)
        return {name: tensor.as_numpy().copy() for name, tensor in found if tensor is not None}

    def _log(self, line: str) -> None:
        pb.Logger.log_info(f"{self._name}: {line}")


def _reply(request: Any) -> TritonReply:
    return TritonReply(request.get_response_sender(), request.request_id())


def _interpreter() -> str:
    """An interpreter for child processes; in Triton's stub, sys.executable may be anything."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    found = shutil.which("python3") or shutil.which(version)
    return found or sys.executable
