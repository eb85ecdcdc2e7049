"""Ports for the embedded servers."""

import socket

from infra.local.free_port import claim_port, free_port, is_free
from infra.local.locks import try_lock
from infra.local.supervisor import Supervisor


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


def test_a_port_that_is_claimed_is_taken_though_nobody_listens_there(tmp_path):
    usual = free_port()
    port, claim = claim_port(usual, tmp_path)
    assert port == usual
    assert claim is not None
    with claim:
        other, none = claim_port(usual, tmp_path)
        assert other != usual
        assert none is None
        assert is_free(other)
    with socket.create_server(("127.0.0.1", usual)):
        assert claim_port(usual, tmp_path)[1] is None
    port, claim = claim_port(usual, tmp_path)
    assert port == usual
    assert claim is not None
    claim.close()


def test_where_the_lock_belongs_to_another_user_any_free_port_will_do(tmp_path):
    usual = free_port()
    (tmp_path / f"everlearn-port-{usual}.lock").mkdir()  # cannot be opened for writing, not even by root
    port, claim = claim_port(usual, tmp_path)
    assert port != usual
    assert claim is None


def test_a_claim_lasts_as_long_as_the_supervisor_that_has_it(tmp_path):
    lock, claim = try_lock(tmp_path / "run" / "lock"), try_lock(tmp_path / "claim")
    assert lock is not None
    assert claim is not None
    supervisor = Supervisor(tmp_path / "run")
    supervisor.launch([], lock, [claim])
    try:
        assert try_lock(tmp_path / "claim") is None
    finally:
        supervisor.stop(20.0)
    again = try_lock(tmp_path / "claim")
    assert again is not None
    again.close()
