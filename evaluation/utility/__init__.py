"""What an endpoint can still do: tasks whose answers can be checked, and answers that can be compared."""

from evaluation.utility.check import CHECKS, right
from evaluation.utility.code import Run, Sandbox
from evaluation.utility.error import UtilityError
from evaluation.utility.exact import boxed, last_number, matches, same_maths
from evaluation.utility.instructions import Tally, followed

__all__ = [
    "CHECKS",
    "Run",
    "Sandbox",
    "Tally",
    "UtilityError",
    "boxed",
    "followed",
    "last_number",
    "matches",
    "right",
    "same_maths",
]
