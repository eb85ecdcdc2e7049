"""What a worker logs: nothing of its libraries that nobody has to act on, and everything else."""

from __future__ import annotations

import logging
import subprocess
import sys

from agents.wiring.run import STARTING_SECONDS, NewBroker

NOT_YET = "Group Coordinator Request failed: [Error 15] GroupCoordinatorNotAvailableError"
LOGGED = f"""
import logging
from agents.wiring.run import configure_logging
configure_logging()
operations, coordinator = (logging.getLogger(name) for name in
    ("bitsandbytes.backends.cpu.ops", "aiokafka.consumer.group_coordinator"))
operations.warning("Failed to load CPU gemm_4bit_forward from kernels-community: No module named 'kernels'")
operations.error("cannot multiply")
logging.getLogger("bitsandbytes.cextension").warning("no native library")
coordinator.error({NOT_YET!r})
coordinator.error("Group Coordinator Request failed: [Error 30] GroupAuthorizationFailedError")
coordinator.warning("Heartbeat failed")
"""


def test_a_worker_logs_what_its_libraries_say_except_for_two_lines_that_are_no_problem():
    said = subprocess.run([sys.executable, "-c", LOGGED], capture_output=True, text=True, check=True).stderr
    assert [line.split(maxsplit=3)[3] for line in said.splitlines()] == [
        "bitsandbytes.backends.cpu.ops cannot multiply",
        "bitsandbytes.cextension no native library",
        "aiokafka.consumer.group_coordinator "
        "Group Coordinator Request failed: [Error 30] GroupAuthorizationFailedError",
        "aiokafka.consumer.group_coordinator Heartbeat failed",
    ]


def test_a_broker_that_does_not_get_ready_is_an_error_after_a_minute():
    noise = NewBroker(1000.0)
    record = logging.LogRecord("aiokafka", logging.ERROR, "", 1, "%s", (NOT_YET,), None)
    record.created = 1000.0 + STARTING_SECONDS
    assert not noise.filter(record)
    record.created += 1
    assert noise.filter(record)


def test_bitsandbytes_still_warns_about_kernels_at_this_place():
    """When this fails, see whether the logger's level is still needed."""
    from importlib.metadata import distribution

    operations = distribution("bitsandbytes").locate_file("bitsandbytes/backends/cpu/ops.py")
    with open(str(operations), encoding="utf-8") as file:
        text = file.read()
    assert text.count("logger.warning(") == 1
    assert "pip install kernels" in text
