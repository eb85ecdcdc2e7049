"""The monitor: compares the latest answers with a reference window, and reports significant differences.

Reads interactions.v1 and requests.v1, follows promotions.v1; writes drift.v1; keeps drift checks and their reports.
Decides whether a difference is drift and what would help. Never trains.
"""

from typing import Final

AGENT: Final = "monitor"
