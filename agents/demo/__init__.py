"""The demo: a kayak workshop whose support desk learns a new product line from its customers' corrections.

It does nothing that a user could not do: it types commands of ``everlearn``, shown before they run, and plays the
customers, who publish questions and feedback with a plain Kafka client. What it tells it has read from the topics.
"""
