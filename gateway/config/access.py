"""Who may call: the keys, and the rule that a gateway without keys is for its own machine alone."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from difflib import get_close_matches
from typing import Any

from gateway.config.problem import Report, quoted
from gateway.config.settings import Address, KeyConfig, ServerConfig
from gateway.keys import EVERY_ENDPOINT


def build_keys(given: list[dict[str, Any]], endpoints: Collection[str], report: Report) -> tuple[KeyConfig, ...]:
    """[[keys]]. Notes a problem for a name or a hash that stands twice, and for an endpoint that there isn't.

    Like all that is built, a key with an unsound part has been reported and is seen by nobody.
    """
    seen: dict[tuple[str, str], int] = {}
    for index, key in enumerate(given):
        for part, remedy in (("name", "give each key its own name"), ("sha256", "give each key once")):
            value = key.get(part)
            if value is None:
                continue
            first = seen.setdefault((part, value), index)
            if first != index:
                report.add(("keys", index, part), f"keys[{first}] has the same", remedy)
        for at, name in enumerate(key.get("endpoints", ())):
            if name != EVERY_ENDPOINT and name not in endpoints:
                says = f"there is no endpoint {quoted(name)}"
                report.add(("keys", index, "endpoints", at), says, _known(name, endpoints), name)
    return tuple(KeyConfig(key.get("name", ""), key.get("sha256", ""), **_given(key)) for key in given)


def _given(key: dict[str, Any]) -> dict[str, Any]:
    return {"endpoints": key["endpoints"]} if "endpoints" in key else {}


def _known(name: str, endpoints: Collection[str]) -> str:
    near = get_close_matches(name, endpoints, 1)
    return f"did you mean {quoted(near[0])}?" if near else f'there are {", ".join(endpoints)}, and "*" for all'


def check_reach(server: ServerConfig, has_keys: bool, report: Report) -> None:
    """Notes a problem for each face that others can reach while there is no key to keep them out."""
    for face, address in (("http", server.http), ("grpc", server.grpc)):
        if not (has_keys or is_loopback(address)):
            says = f"found {address}, which other machines can reach, and there are no [[keys]]: anyone could call"
            remedy = f"add [[keys]] to the config, or listen on loopback: 127.0.0.1:{address.port}"
            report.add(("server", face), says, remedy, str(address))


def is_loopback(address: Address) -> bool:
    """Whether only this machine can reach it. A name other than `localhost` is taken for one that others can."""
    if address.host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        return False
