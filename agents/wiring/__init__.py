"""Builds parts and workers from the settings: one file for each agent, imported on demand.

So no worker loads another agent's libraries.
"""
