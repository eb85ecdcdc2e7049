"""Former names, for the wiring of the monitor and of the indexer: use ``agents.wiring.runs`` and ``retrying``."""

from agents.delivery.retrying import retry_while_unavailable as patiently
from agents.wiring.runs import settings_location as place
from agents.wiring.runs import settings_of

__all__ = ["patiently", "place", "settings_of"]
