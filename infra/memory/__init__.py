"""In-memory twins of the real parts, for tests and for trying out. They keep the same contracts.

A twin is in the file that is named like its real part: ``memory/releases.py`` is the twin of ``sql/releases.py``.
"""
