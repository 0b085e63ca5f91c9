"""Runs in TensorZero's environment: starts the HTTP gateway that the package embeds, says where, waits for SIGTERM.

tensorzero_server.py CONFIG ADDRESS
"""

import signal
import sys
from pathlib import Path

from tensorzero.tensorzero import _start_http_gateway  # type: ignore[import-not-found]  # in its own environment


def main(config: str, address: Path) -> None:
    """Serves until SIGTERM; `address` appears whole, holding the base URL."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # before its threads are made: they inherit it
    gateway = _start_http_gateway(
        config_file=config, clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
    )
    fresh = address.with_suffix(".new")
    fresh.write_text(gateway.base_url)
    fresh.rename(address)
    signal.sigwait([signal.SIGTERM])
    gateway.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
