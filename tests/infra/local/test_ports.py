"""Ports for the embedded servers."""

import socket

from infra.local.ports import free_port, is_free


def test_the_usual_port_is_used_while_it_is_free():
    usual = free_port()
    assert free_port(usual) == usual


def test_a_taken_port_is_replaced_by_a_free_one():
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        assert not is_free(taken)
        other = free_port(taken)
        assert other != taken
        assert is_free(other)


def test_a_port_that_is_taken_on_all_addresses_is_taken():
    with socket.create_server(("0.0.0.0", 0)) as server:
        assert not is_free(server.getsockname()[1])
