"""The validator: evaluates a trained adapter on rows that it was not trained on, and on what it must not forget.

Reads adapters.v1, follows promotions.v1; writes validations.v1; keeps reports and the growing retention suite.
Decides whether an adapter may be released at all. Never releases an adapter.
"""

from typing import Final

AGENT: Final = "validator"
