"""What is asked, and of whom: the arguments of our own on Locust's command line and in its web UI.

One check serves both: the command line's types call it, and so does every user that starts, for Locust takes what
is typed into its web UI as it is.
"""

from __future__ import annotations

import argparse
import os
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

HOST = "http://127.0.0.1:8080"
GRPC_HOST = "127.0.0.1:8081"
KEY_VARIABLE = "PENSTOCK_API_KEY"
NUMBER = "{n}"
_GRPC_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+):[0-9]{1,5}")


def host(value: str) -> str:
    """http(s)://host[:port], without the path: that belongs to the users. Errors: ValueError."""
    try:
        url = urlsplit(value.rstrip("/"))
        good = url.scheme in ("http", "https") and url.hostname and not url.query and not url.username
        good = good and url.path in ("", "/v1") and url.port != 0
    except ValueError:
        good = False
    if not good:
        raise ValueError(f"host {value!r} is no base URL: write it like {HOST}")
    return f"{url.scheme}://{url.netloc}"


def grpc_host(value: str) -> str:
    """host:port. Errors: ValueError."""
    if not _GRPC_HOST.fullmatch(value):
        raise ValueError(f"grpc-host {value!r} is no address: write host:port, like {GRPC_HOST}; TLS is not spoken")
    return value


def model(value: str) -> str:
    """An endpoint or endpoint@version. Errors: ValueError."""
    if not value.strip() or not value.isprintable():
        raise ValueError("model is empty: name an endpoint, or endpoint@version")
    return value


def prompt(value: str) -> str:
    """Not empty. Errors: ValueError, without the prompt."""
    if not value.strip():
        raise ValueError("prompt is empty: write what is to be asked")
    return value


def max_tokens(value: str | int) -> int:
    """1 or more. Errors: ValueError."""
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise ValueError(f"max-tokens {value!r} will not do: write a whole number, 1 or more")
    return number


def seconds(name: str, least: float) -> Callable[[str | float], float]:
    """A check for seconds that are `least` or more. Its errors: ValueError."""

    def check(value: str | float) -> float:
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not least <= number <= 86_400:
            raise ValueError(f"{name} {value!r} will not do: write seconds, from {least:g} to 86400")
        return number

    return check


idle_timeout = seconds("idle-timeout", 0.1)
think_time = seconds("think-time", 0.0)


@dataclass(frozen=True)
class Ask:
    """What one user asks, and of whom; the key is not part of it, nor of any repr."""

    host: str
    grpc_host: str
    model: str
    prompt: str
    max_tokens: int
    idle_timeout: float
    """Seconds without a byte after which a reply has failed."""
    think_time: float
    """Mean pause in seconds between a reply and the next request; 0 asks at once."""

    @classmethod
    def of(cls, base: str, options: Any) -> Ask:
        """From Locust's parsed options. Errors: ValueError that names the option."""
        return cls(
            host(base),
            grpc_host(options.grpc_host),
            model(options.model),
            prompt(options.prompt),
            max_tokens(options.max_tokens),
            idle_timeout(options.idle_timeout),
            think_time(options.think_time),
        )

    def words(self) -> str:
        """The prompt for one request: {n} becomes a number, so that no cache of prompts answers for the model."""
        return self.prompt.replace(NUMBER, str(random.randrange(1_000_000)))

    def pause(self) -> float:
        """Seconds until the next request. Exponential: many users together then arrive like a Poisson process."""
        return random.expovariate(1 / self.think_time) if self.think_time else 0.0


def authorization() -> str | None:
    """The header's value, from the environment variable PENSTOCK_API_KEY: never on a command line or in the UI."""
    key = os.environ.get(KEY_VARIABLE)
    return f"Bearer {key}" if key else None


def add_arguments(parser: Any) -> None:
    """Our arguments beside Locust's, and defaults for two of its own."""

    def checked(check: Callable[[str], Any]) -> Callable[[str], Any]:
        def argument(value: str) -> Any:
            try:
                return check(value)
            except ValueError as error:
                raise argparse.ArgumentTypeError(str(error)) from None

        return argument

    def add(name: str, check: Callable[[str], Any], default: Any, text: str) -> None:
        parser.add_argument(name, type=checked(check), default=default, help=text, metavar="<value>")

    # Requests that are under way when the time is up are waited for: cutting them would look like failed clients.
    parser.set_defaults(host=HOST, stop_timeout=60)
    add("--grpc-host", grpc_host, GRPC_HOST, "Where GrpcStream asks: host:port")
    add("--model", model, "assistant", "Endpoint, or endpoint@version")
    add("--prompt", prompt, "Count from 1 to 40.", "What every request asks; {n} in it becomes a random number")
    add("--max-tokens", max_tokens, 64, "Longest answer, in tokens")
    add("--idle-timeout", idle_timeout, 60.0, "Seconds without a byte after which a reply has failed")
    add("--think-time", think_time, 0.0, "Mean pause of a user between two requests, in seconds")
