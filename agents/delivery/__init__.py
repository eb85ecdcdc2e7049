"""The delivery recipe: every event is handled at least once, and its outcome takes effect exactly once.

Reads the topics of one agent; writes what the agent's handlers return, dead letters, and heartbeats on ``fleet.v1``.
Decides when an event is finished, retried, bisected or given up, and when a worker must be restarted.
Never looks into an event, and uses no technology but Faust: everything else is passed in through ``ports``.

One event, from Kafka and back:

1. ``stream`` takes raw messages from Faust and keeps them in the order of their offsets (``positions``).
2. ``deliver`` decodes each message, skips events that are in the journal, and marks the rest as begun (``in_flight``).
3. The agent's handler turns events into an ``outcome``: events to publish, a change to commit, long work to start.
4. ``outbox`` commits the change, the journal row and the encoded outputs in one SQL transaction, publishes the outputs,
   waits for Kafka's confirmation and marks the row as published.
5. ``stream`` acks the message. No other module acks.

A message that fails is retried, then put into the dead-letter topic (``dead_letters``). If Kafka, SQL or another
service cannot be reached, the worker waits. Long work is a run (``runs``) in a child process (``child``). ``ticks`` do
work that no event starts, ``follow`` reads a whole compacted topic, ``heartbeat`` reports the worker and ends it when
it makes no progress, and ``lifecycle`` starts and stops all of this for one ``worker``. ``docs/delivery.md`` explains
why.
"""
