"""The recorder: joins answers and what users said of them into the feature table.

Reads answers.v1, feedback.v1 and examples.v1; writes interactions.v1; keeps the feature table in SQL.
Decides how facts merge into a row, whatever order they arrive in. Never judges an answer itself.
"""
