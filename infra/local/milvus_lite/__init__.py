"""Milvus Lite's server with its own search and one writer at a time, run in place of ``milvus-lite server``.

It keeps milvus-lite's gRPC service, its files and its log, so pymilvus uses it like any Milvus. It differs
from the library's own server in these points (facts measured at 100,000 rows):

- Writes: the library lets ten threads write to one collection without a lock. Four writers and a SIGKILL tore its log
  and lost 6,700 of 8,000 rows. Here one request writes at a time (``server``).
- Search: the library searches row by row in Python: 0.2 s for a vector, 0.5 s for words, 5 s behind a filter on
  metadata. Here each search is a few operations on arrays: 0.01 s (``collection``, ``rows``, ``vectors``, ``words``,
  ``ranking``, ``row_filter``).
- BM25: the library computes its statistics for each segment, so scores of two segments are not comparable. Here they
  cover all live rows.
- Visibility: while the library writes rows out to a segment, no search finds them. Here a search always finds them.
- Process: the library's server ignores SIGTERM and lets a second server listen on its port. This one ends within
  seconds of SIGTERM and refuses a port that is in use (``server``).

``library`` is the only file that uses private names of milvus-lite. It lists them, with the reasons and the tests.
"""
