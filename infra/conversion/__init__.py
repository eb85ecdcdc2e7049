"""Files of many formats as Markdown text, read in a child process, so that a hostile file costs only itself."""

from infra.conversion.converter import Converter
from infra.conversion.document import CONVERSION, FORMATS, MAX_FILE_BYTES, Converted, Unreadable, decode_utf8

__all__ = ["CONVERSION", "Converted", "Converter", "FORMATS", "MAX_FILE_BYTES", "Unreadable", "decode_utf8"]
