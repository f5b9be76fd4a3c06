"""Rules from examples in Python: two functions in, a rule of the language out, tried on other sizes."""

from tdsl.derive.derive import Derived, derive

__all__ = ["Derived", "derive"]
