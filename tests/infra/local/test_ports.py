"""Ports for the embedded servers."""

import socket

from agents.errors import ConfigurationError
from infra.local.ports import Claims, free_port, is_free


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


def test_a_port_that_a_start_means_to_use_is_taken_until_its_server_listens(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    usual = free_port()
    first, second, third = Claims(), Claims(), Claims()
    assert first.port(usual) == usual
    other = second.port(usual)
    assert other != usual
    assert is_free(other)
    with socket.create_server(("127.0.0.1", usual)):
        first.release()
        assert second.port(usual) != usual
    assert third.port(usual) == usual
    third.release()


def test_where_another_user_has_the_lock_any_free_port_will_do(monkeypatch):
    def refuse(path):
        raise ConfigurationError(f"{path} cannot be written")

    monkeypatch.setattr("infra.local.ports.try_lock", refuse)
    usual = free_port()
    assert Claims().port(usual) != usual
