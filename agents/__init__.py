"""Everlearn's agents: a room each, the delivery recipe they share, and the command line.

This package is called ``agents``; an SDK of OpenAI's uses the same import name, so give Everlearn
an environment of its own.
"""
