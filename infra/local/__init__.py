"""The embedded stack: Kafka, Milvus Lite and the supervisor, without Docker or a system Java."""
