"""What counts as a number or a truth value where text stands for it, in files and in the application's JSON alike."""

from __future__ import annotations

NUMBER = r"^(?i:[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|nan|[+-]?inf(inity)?)$"
"""A regular expression for decimal numbers in ASCII; neither `1_500` nor full-width digits are."""

TRUTH_VALUES = {"true": True, "t": True, "1": True, "1.0": True, "false": False, "f": False, "0": False, "0.0": False}
"""The spellings in lower case."""
