"""The trainer: turns corrections, approved answers and examples into a LoRA adapter in the registry.

Reads drift.v1 and requests.v1; writes adapters.v1; keeps datasets, training runs and adapters.
Decides which rows an adapter is trained on, and declines a training that has too few. Never judges an adapter.
"""

from typing import Final

AGENT: Final = "trainer"
