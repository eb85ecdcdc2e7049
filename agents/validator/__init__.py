"""The validator: judges a trained adapter on rows that were kept from training, and on what must not be forgotten.

Reads adapters.v1, follows promotions.v1; writes validations.v1; keeps reports and the growing retention suite.
Decides whether an adapter may be released at all. Never releases one.
"""
