"""The Milvus Lite server of the embedded stack, with its own storage of rows and its own exact search."""
