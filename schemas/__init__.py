"""The contracts: every event, topic and wire format that Everlearn's parts and its users' programs share.

This package reads nothing, writes nothing and decides nothing. It imports only the standard library and pydantic.
"""
