"""Splits Markdown and plain text into chunks: under their headings, with tables and code kept whole where they fit."""
