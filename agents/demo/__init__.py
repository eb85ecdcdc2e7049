"""The demo: a small shop's support desk, from its documents to a corrected answer, told as it happens.

It types nothing that a user could not type: every step is a command of ``everlearn``, shown before it runs.
"""
