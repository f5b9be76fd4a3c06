"""The language: text → syntax tree → checked rules, and back to canonical text. Imports no torch."""

from tdsl.lang.format import format_file
from tdsl.lang.syntax import parse, parse_expression, parse_file

__all__ = ["format_file", "parse", "parse_expression", "parse_file"]
