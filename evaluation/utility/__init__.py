"""What an endpoint can still do: tasks whose answers can be checked, and answers that can be compared."""

from online.evaluation.utility.check import CHECKS, right
from online.evaluation.utility.code import Run, Sandbox
from online.evaluation.utility.error import UtilityError
from online.evaluation.utility.exact import boxed, last_number, matches, same_maths
from online.evaluation.utility.instructions import Tally, followed

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
