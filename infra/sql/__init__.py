"""SQL through SQLAlchemy: SQLite in WAL mode or PostgreSQL, the same tables and code."""
