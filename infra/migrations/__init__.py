"""The history of the SQL schema, forward only: a migration never loses what a user has collected."""
