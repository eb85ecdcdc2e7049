"""What Everlearn adds to supervisord's own remote calls: the tie to its starter cut, and exit codes that are kept."""

from __future__ import annotations

from typing import Any

from infra.local.tether import tie


class Keeper:
    """Called over supervisord's socket as ``everlearn.*``."""

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}

    def release(self) -> bool:
        """From now on supervisord lives on when ``everlearn up`` has ended: the stack is up and detached."""
        tie(0)
        return True

    def exit_codes(self) -> dict[str, int]:
        """The exit code of each program's last death, -1 for a signal; without those that have not died."""
        return self.codes


def make_interface(supervisord: Any, **_settings: str) -> Keeper:
    """Named in supervisord's configuration."""
    # supervisord forgets the code of what dies young or is started again.
    from supervisor.options import decode_wait_status

    keeper, options = Keeper(), supervisord.options
    wait = options.waitpid

    def remembering() -> tuple[int | None, int | None]:
        pid, status = wait()
        if pid and (process := options.pidhistory.get(pid)) is not None:
            keeper.codes[process.config.name] = decode_wait_status(status)[0]
        return pid, status

    options.waitpid = remembering
    return keeper
