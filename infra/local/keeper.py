"""What Everlearn adds to supervisord's own remote calls: cutting the tie to the process that started it."""

from __future__ import annotations

from typing import Any

from infra.local.tether import tie


class Keeper:
    """Called over supervisord's socket as ``everlearn.*``."""

    def release(self) -> bool:
        """From now on supervisord lives on when ``everlearn up`` has ended: the stack is up and detached."""
        tie(0)
        return True


def make_interface(_supervisord: Any, **_settings: str) -> Keeper:
    """Named in supervisord's configuration."""
    return Keeper()
