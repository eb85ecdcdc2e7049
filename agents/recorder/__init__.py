"""The recorder: joins answers with the feedback on them in the feature table.

Reads answers.v1, feedback.v1 and examples.v1; writes interactions.v1; keeps the feature table in SQL.
Decides how facts merge into a row, in whatever order they arrive. Never judges an answer.
"""

from typing import Final

AGENT: Final = "recorder"
