"""Load on a running gateway, with Locust. README.md beside this file says how to run it and read the result.

.venv-load/bin/locust -f loadtests/locustfile.py --headless --users 20 --spawn-rate 20 --run-time 30s
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from locust import events
from locust.runners import WorkerRunner

# Locust's environment holds no Penstock.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "proto"))

from loadtests.users.ask import Ask, add_arguments
from loadtests.users.chat import ChatStream, ChatUnary
from loadtests.users.grpc_stream import GrpcStream
from loadtests.users.probe import find_gateway
from loadtests.users.rows import refine
from loadtests.users.summary import Summary, show

__all__ = ["ChatStream", "ChatUnary", "GrpcStream"]

refine()
events.init_command_line_parser.add_listener(add_arguments)


@events.init.add_listener
def look_for_gateway(environment: Any, **_: Any) -> None:
    """Ends a headless run that would have nobody to ask; the web UI may be given another host yet."""
    if isinstance(environment.runner, WorkerRunner):
        return
    options = environment.parsed_options
    try:
        grpc = any(issubclass(user, GrpcStream) for user in environment.user_classes)
        trouble = find_gateway(Ask.of(options.host, options), grpc=grpc)
    except ValueError as error:
        trouble = str(error)
    if trouble is None:
        return
    print(f"loadtest: {trouble}", file=sys.stderr, flush=True)
    if options.headless or options.autostart:
        raise SystemExit(2)


@events.quitting.add_listener
def sum_up(environment: Any, **_: Any) -> None:
    """TTFT, TPOT and gaps with decimals, above Locust's tables. A run without a reply is no success."""
    if isinstance(environment.runner, WorkerRunner):
        return
    if environment.stats.total.num_requests:
        show("What clients saw, in ms; TTFT, TPOT and gap of right replies:", Summary(environment.stats).take())
    elif environment.parsed_options.headless:
        print("loadtest: no request was answered.", file=sys.stderr, flush=True)
        environment.process_exit_code = 1
