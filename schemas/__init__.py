"""The contracts: every event, topic and wire format that Everlearn's parts and its users' programs share.

Reads nothing, writes nothing, decides nothing; imports the standard library and pydantic only.
"""
