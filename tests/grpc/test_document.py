"""The snippet of docs/grpc.md runs as it stands there, and its tables have what the code has."""

from __future__ import annotations

import re
from pathlib import Path

import grpc
import pytest

from gateway.core import errors
from penstock.v1 import inference_pb2 as pb
from tests.grpc.serving import GrpcGateway

DOCUMENT = (Path(__file__).parents[2] / "docs" / "grpc.md").read_text()


def test_the_snippet_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    with GrpcGateway(("A canary", " is a bird.")) as one:
        exec(snippet.replace("127.0.0.1:8081", f"127.0.0.1:{one.face.port}"), {})
    assert capsys.readouterr().out == "A canary is a bird.\nassistant@v1, 2 tokens\nA canary is a bird."


def test_every_method_and_status_is_told() -> None:
    told = set(re.findall(r"^\| `([A-Z]\w+)`", DOCUMENT, re.MULTILINE))
    methods = {method.name for method in pb.DESCRIPTOR.services_by_name["Inference"].methods}
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.PenstockError)
    ]
    numbers = {code.value[0]: code.name for code in grpc.StatusCode}
    over_http_only = {"CANCELLED", "UNIMPLEMENTED"}
    assert told == methods | {numbers[kind.grpc] for kind in kinds} - over_http_only
