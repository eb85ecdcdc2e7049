"""The delivery recipe: every event is handled at least once, and its outcome takes effect exactly once.

Reads the topics of one agent; writes what the agent's handlers return, dead letters, and heartbeats on ``fleet.v1``.
Decides when an event is finished, retried, bisected or given up, and when a worker must be restarted.
Never looks into an event, and never touches a technology other than Faust: the rest comes in through ``ports``.

One event, from Kafka and back:

1. ``stream`` takes raw messages from Faust and holds the order of their offsets (``positions``); it alone acks.
2. ``deliver`` decodes each message, passes over what the journal knows, and marks the rest as begun (``in_flight``).
3. The agent's handler turns events into an ``outcome``: events to publish, a change to commit, long work to start.
4. ``outbox`` commits the change, the journal row and the encoded outputs in one SQL transaction, publishes the outputs,
   waits for Kafka's confirmation and marks the row as published.
5. ``stream`` acks the message.

What fails is retried, then put into the dead-letter topic (``dead_letters``). What cannot be reached is waited for.
Long work is a run (``runs``) in a child process (``child``). ``ticks`` do what must happen without traffic,
``follow`` reads a compacted topic whole, ``heartbeat`` reports the worker and ends it when it stands still, and
``lifecycle`` starts and stops all of it for one ``worker``. ``docs/delivery.md`` explains why.
"""
