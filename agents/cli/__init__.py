"""The command line, a file a subject; each command is a plain Kafka client or a file operation."""
