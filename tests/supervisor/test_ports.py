"""Listening sockets: shared by the workers of one gateway, refused to a second one."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from gateway.config import Address
from gateway.supervisor.ports import PortTaken, listen, reserve


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as one:
        yield one


def opened(stack: ExitStack, address: Address, count: int) -> list[socket.socket]:
    return [stack.enter_context(one) for one in listen(address, count, "--http")]


def test_all_sockets_share_one_free_port(stack: ExitStack) -> None:
    sockets = opened(stack, Address("127.0.0.1", 0), 3)
    names = {one.getsockname() for one in sockets}
    assert len(names) == 1
    (name,) = names
    assert name[1] > 0
    assert all(not one.getblocking() for one in sockets)
    for _ in range(8):
        stack.enter_context(socket.create_connection(name, timeout=10))  # the kernel has queued it: they listen


def test_a_given_port_is_the_port(stack: ExitStack) -> None:
    free = opened(stack, Address("127.0.0.1", 0), 1)[0]
    port = free.getsockname()[1]
    free.close()
    assert opened(stack, Address("127.0.0.1", port), 2)[1].getsockname()[1] == port


def test_a_second_gateway_is_refused_in_words(stack: ExitStack) -> None:
    port = opened(stack, Address("127.0.0.1", 0), 2)[0].getsockname()[1]
    with pytest.raises(PortTaken) as caught:
        listen(Address("127.0.0.1", port), 2, "--http")
    assert str(caught.value) == f"can't listen on 127.0.0.1:{port}: it is in use; choose another with --http HOST:PORT"


def test_a_port_that_another_program_holds_is_refused(stack: ExitStack) -> None:
    other = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    with pytest.raises(PortTaken, match="in use"):
        reserve(Address("127.0.0.1", other.getsockname()[1]), "--grpc")


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_ours(host: str) -> None:
    with pytest.raises(PortTaken) as caught:
        reserve(Address(host, 0), "--metrics")
    assert str(caught.value).startswith(f"can't listen on {host}:0: ")
    assert str(caught.value).endswith("; choose another with --metrics HOST:PORT")


def test_a_reserved_port_does_not_listen_and_is_kept(stack: ExitStack) -> None:
    held = stack.enter_context(reserve(Address("127.0.0.1", 0), "--grpc"))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(held.getsockname(), timeout=10)
    assert held.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 1


def test_nothing_is_left_open_by_a_refusal(stack: ExitStack) -> None:
    port = opened(stack, Address("127.0.0.1", 0), 1)[0].getsockname()[1]
    for _ in range(3):  # a socket left behind would be a ResourceWarning, which is an error here
        with pytest.raises(PortTaken):
            reserve(Address("127.0.0.1", port), "--http")
