"""The promoter: gives a validated adapter a growing share of the users, then all of them, or rolls it back.

Reads validations.v1, requests.v1 and interactions.v1; writes promotions.v1, and follows it to publish again what it
lost; keeps the release state and its history. Decides what is released. Never loads an adapter.
"""

from typing import Final

AGENT: Final = "promoter"
