"""Runs the migrations on the connection that ``infra.sql.migrate`` has opened.

Alembic executes this file, so unlike every other module it does its work when it is loaded.
"""

from __future__ import annotations

from alembic import context

from infra.sql.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
