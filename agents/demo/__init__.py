"""The demo: a kayak workshop whose support desk learns a new product line from its customers' corrections.

The demo does nothing that a user could not do. It runs commands of ``everlearn``, which it shows first, and it plays
the customers, who publish questions and feedback with a plain Kafka client. All that it reports was read from topics.
"""
