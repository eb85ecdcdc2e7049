"""Does runs: work of minutes or hours in a niced child process, held by a lease, so that no partition waits for it.

A run's row is written in the journal's transaction of the event that asked for it. A worker claims the run, renews its
lease while the child works, and journals the result like an event's. Another worker takes over the run of a dead
worker, in the same folder, so that the child can resume.

Every run ends. An attempt counts from its claim, and fails with the child, with its result, or with the worker. When
no attempt is left the run ends as failed, with the outcome of ``RunKind.failed``. An attempt does not count if it met
something unavailable, or if the worker was told to stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import structlog

from agents.delivery.child import FAILED_WITH_MESSAGE, MUST_WAIT
from agents.delivery.outbox import Cause, Outbox, context_of
from agents.delivery.outcome import Outcome, Output, RunRequest
from agents.delivery.ports import RunStore
from agents.delivery.progress import read_progress
from agents.delivery.worker import RunKind
from schemas.delivery import Claim
from schemas.envelope import EventContext, derived_id, identity
from schemas.errors import AlreadyJournaled, EverlearnError, RecordRefused, Unavailable, plain, unavailable
from schemas.event import JsonObject

log = structlog.get_logger()

PROGRESS_SECONDS = 1.0
WAIT_SECONDS = 5.0
"""After this time, doubling, a run that met something unavailable is tried again."""
LONGEST_PAUSE_SECONDS = 60.0
_TAIL_BYTES = 2000


class RunFailed(Exception):
    """A child process ended without a result; the message is the end of its log."""


class RunLost(Exception):
    """Another worker has taken over the run."""


class Runner:
    """Claims and executes the runs of one agent, one at a time in this worker."""

    def __init__(
        self,
        outbox: Outbox,
        runs: RunStore,
        kinds: dict[str, RunKind],
        *,
        worker: str,
        folder: Path,
        clock: Callable[[], datetime],
        lease_seconds: float = 30.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._outbox = outbox
        self._runs = runs
        self._kinds = kinds
        self._worker = worker
        self._folder = folder
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._sleep = sleep
        self._waiting: str | None = None
        self._waited_at = 0.0

    @property
    def waiting(self) -> str | None:
        """Why a run waits, such as a database that does not answer; None while no run does."""
        return self._waiting if time.monotonic() - self._waited_at < 2 * LONGEST_PAUSE_SECONDS else None

    async def run(self, poll_seconds: float = 0.5) -> None:
        """Works until cancelled."""
        while True:
            pause = poll_seconds
            try:
                if await self.work():
                    continue
            except Exception as error:  # noqa: BLE001  # whatever it is, the worker's events and other runs go on
                self._note_wait(error)
                pause = WAIT_SECONDS
            await self._sleep(pause)

    async def work(self) -> bool:
        """Does one run if one is due. Returns whether it did. Raises what SQL raises."""
        claim = await asyncio.to_thread(self._claim)
        if claim is None:
            return False
        try:
            await self._attempt(claim)
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):  # if SQL does not answer, the attempt counts
                await asyncio.to_thread(self._release, claim, 0.0, spare=True)
            raise
        return True

    async def _attempt(self, claim: Claim) -> None:
        kind = self._kinds.get(claim.kind)
        log.info("run started", run=claim.run_id, kind=claim.kind, attempt=claim.attempt)
        try:
            if kind is None:
                raise RunFailed(f"this worker knows no run of kind {claim.kind}")
            if claim.counted > kind.max_attempts:
                raise RunFailed(f"its worker died during each of {kind.max_attempts} attempts")
            result = await self._do(kind, claim)
            await self._finish(claim, "done", result, kind.done(claim, result))
        except RunLost:
            log.warning("run lost", run=claim.run_id)
        except RecordRefused as error:
            await self._give_up_outputs(claim, kind, error)
        except Exception as error:  # noqa: BLE001  # whatever it is, the run ends after some attempts
            wait = unavailable(error)
            if wait is not None:
                await self._wait(claim, wait)
            else:
                await self._fail(claim, kind, _reason(error))
        else:
            self._waiting = None

    async def _wait(self, claim: Claim, problem: Unavailable) -> None:
        """Returns the run without counting the attempt. Its result, if it has one, is in its folder."""
        while True:
            self._note_wait(problem)
            known = read_progress(self._folder / claim.run_id)
            progress = {**known, "text": f"waiting: {problem}", "eta_seconds": None}
            try:
                await asyncio.to_thread(self._runs.report, claim.run_id, claim.attempt, progress)
                pause = min(LONGEST_PAUSE_SECONDS, WAIT_SECONDS * 2.0 ** min(claim.spared, 10))
                await asyncio.to_thread(self._release, claim, pause, spare=True)
                return
            except Unavailable as error:
                problem = error
            await self._sleep(WAIT_SECONDS)

    def _note_wait(self, error: Exception) -> None:
        reason = str(error) if isinstance(error, Unavailable) else f"{type(error).__name__}: {error}"
        if reason != self.waiting:
            log.warning("waiting", agent=self._outbox.agent, reason=reason)
        self._waiting, self._waited_at = reason, time.monotonic()

    async def _fail(self, claim: Claim, kind: RunKind | None, reason: str) -> None:
        """Returns a run for its next attempt, or ends it as failed if none is left."""
        log.warning("run failed", run=claim.run_id, attempt=claim.attempt, error=reason)
        self._waiting = None
        if kind is not None and claim.counted < kind.max_attempts:
            pause = min(LONGEST_PAUSE_SECONDS, 2.0**claim.counted)
            await asyncio.to_thread(self._release, claim, pause)
            return
        try:
            outcome = kind.failed(claim, reason) if kind is not None else Outcome()
            await self._finish(claim, "failed", {"error": reason}, outcome)
        except Exception as error:
            if unavailable(error) is not None:
                raise
            log.error("run failed without an event", run=claim.run_id, reason=reason, error=_reason(error))
            await self._finish(claim, "failed", {"error": reason}, Outcome())

    async def _give_up_outputs(self, claim: Claim, kind: RunKind | None, problem: RecordRefused) -> None:
        """Reports a run as failed whose outcome is committed although Kafka will never take its outputs."""
        log.error("run not published", run=claim.run_id, reason=str(problem))
        await self._outbox.give_up(identity(self._context(claim)))
        outcome = kind.failed(claim, str(problem)) if kind is not None else Outcome()
        context = self._context(claim, "refused")
        with contextlib.suppress(AlreadyJournaled):
            await self._outbox.settle([Cause(identity=identity(context), context=context)], [outcome], {})

    def _claim(self) -> Claim | None:
        now = self._clock()
        return self._runs.claim(self._outbox.agent, self._worker, now=now, lease_seconds=self._lease_seconds)

    def _release(self, claim: Claim, seconds: float, *, spare: bool = False) -> None:
        now = self._clock()
        self._runs.release(claim.run_id, claim.attempt, now=now, retry_in_seconds=seconds, spare=spare)

    async def _do(self, kind: RunKind, claim: Claim) -> JsonObject:
        folder = self._folder / claim.run_id
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "result.json").is_file():
            return _result(folder, 0)  # an earlier attempt ended, but its result could not be written down
        (folder / "arguments.json").write_text(json.dumps(claim.arguments))
        with (folder / "log").open("ab") as output:
            module = [sys.executable, "-m", "agents.delivery.child"]
            command = [*module, kind.entry, str(folder), str(os.getpid()), str(kind.niceness)]
            child = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output)
        try:
            await self._watch(child, claim, folder)
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        return _result(folder, child.returncode)

    async def _watch(self, child: asyncio.subprocess.Process, claim: Claim, folder: Path) -> None:
        """Renews the lease and writes down the progress until the child ends."""
        renew_at = time.monotonic() + self._lease_seconds / 3
        reported: JsonObject = {}
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.wait(), min(PROGRESS_SECONDS, self._lease_seconds / 3))
                return
            try:
                if (progress := read_progress(folder)) != reported:
                    await asyncio.to_thread(self._runs.report, claim.run_id, claim.attempt, progress)
                    reported = progress
                if time.monotonic() < renew_at:
                    continue
                held = await asyncio.to_thread(self._renew, claim)
                renew_at = time.monotonic() + self._lease_seconds / 3
            except Unavailable as error:
                log.warning("waiting", run=claim.run_id, reason=str(error))
                continue  # if SQL stays away longer than the lease, the next renewal shows whether this worker lost it
            if not held:
                raise RunLost(claim.run_id)

    def _renew(self, claim: Claim) -> bool:
        now = self._clock()
        return self._runs.renew(claim.run_id, claim.attempt, now=now, lease_seconds=self._lease_seconds)

    async def _finish(self, claim: Claim, state: str, result: JsonObject, outcome: Outcome) -> None:
        def effect() -> list[Output | RunRequest]:
            if not self._runs.finish(claim.run_id, claim.attempt, state=state, result=result, now=self._clock()):
                raise RunLost(claim.run_id)
            return list(outcome.effect()) if outcome.effect is not None else []

        context = self._context(claim)
        cause = Cause(identity=identity(context), context=context)
        with contextlib.suppress(RunLost, AlreadyJournaled):
            await self._outbox.settle([cause], [replace(outcome, effect=effect)], {})
            log.info("run ended", run=claim.run_id, state=state)

    def _context(self, claim: Claim, *more: str) -> EventContext:
        """Returns the context of what the run leads to; ``more`` sets apart what it leads to besides its outcome."""
        asked = context_of(claim.context)
        return EventContext(
            id=derived_id(self._outbox.agent, "run", claim.run_id, *more),
            source=runs_source(self._outbox.agent),
            time=self._clock(),
            correlation_id=asked.correlation_id or asked.id,
            causation_id=asked.id,
            traceparent=asked.traceparent,
        )


def runs_source(agent: str) -> str:
    """The CloudEvents source of what an agent's runs lead to."""
    return f"/everlearn/{agent}/runs"


def _result(folder: Path, code: int | None) -> JsonObject:
    path = folder / "result.json"
    if code == 0 and path.is_file():
        result = json.loads(path.read_text())
        if isinstance(result, dict):
            return result
    log_file = folder / "log"
    tail = log_file.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip() if log_file.is_file() else ""
    last = tail.splitlines()[-1] if tail else "it printed nothing"
    if code == MUST_WAIT:
        raise Unavailable(last)
    raise RunFailed(last if code == FAILED_WITH_MESSAGE else f"exit code {code}: {last} (log: {log_file})")


def _reason(error: Exception) -> str:
    """Returns an error on one line that every event and every database takes."""
    text = str(error) if isinstance(error, (RunFailed, EverlearnError)) else f"{type(error).__name__}: {error}"
    return plain(text) or type(error).__name__
