"""Capture a PyTorch model as one normal form."""

from tdsl.capture.captured import Captured, capture, require_finite
from tdsl.capture.naming import Axis
from tdsl.capture.normal import normalise
from tdsl.capture.spec_file import capture_spec

__all__ = ["Axis", "Captured", "capture", "capture_spec", "normalise", "require_finite"]
