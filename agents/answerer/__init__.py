"""The answerer: answers questions from the documents with the adapter that is released for the task.

Reads questions.v1, follows promotions.v1; writes answers.v1; keeps only caches.
Decides which sources go into the prompt and which arm a user belongs to. Never decides what is released.
"""

from typing import Final

AGENT: Final = "answerer"
