"""Checks: whether a task's response is right, by whichever check its prompt carries."""

from collections.abc import Callable, Mapping
from typing import Any

from evaluation.suite import Prompt
from evaluation.utility import exact
from evaluation.utility.code import Sandbox, program
from evaluation.utility.error import UtilityError
from evaluation.utility.instructions import followed


def right(prompt: Prompt, response: str, sandbox: Sandbox | None = None) -> bool | None:
    """Whether the response does the task; None where that is not known (an instruction of a kind that is not checked).

    The kind of a prompt's `check` is one of CHECKS; without a check its `answer` is compared. Unit tests run code that a
    model wrote, and so only in a sandbox that the caller gives. Raises UtilityError.
    """
    if prompt.check is None:
        if prompt.answer is None:
            raise UtilityError(f"the task {prompt.id} has neither an answer nor a check: give its prompt one of them")
        return exact.matches(response, prompt.answer)
    kind = str(prompt.check.get("kind"))
    if kind not in CHECKS:
        raise UtilityError(f"the task {prompt.id} has a check of the kind {kind!r}: use one of {', '.join(CHECKS)}")
    try:
        return CHECKS[kind](prompt, prompt.check, response, sandbox)
    except KeyError as error:
        raise UtilityError(f"the check of the task {prompt.id} has no {error}: add it to its prompt") from None


def _number(prompt: Prompt, check: Mapping[str, Any], response: str, sandbox: Sandbox | None) -> bool:
    wanted = exact.last_number(_answer(prompt))
    return wanted is not None and exact.last_number(response) == wanted


def _boxed(prompt: Prompt, check: Mapping[str, Any], response: str, sandbox: Sandbox | None) -> bool:
    said = exact.boxed(response)
    if said is None:
        told = exact.stated(response)
        return exact.matches(response, _answer(prompt)) or (told is not None and exact.same_maths(told, _answer(prompt)))
    return exact.same_maths(said, _answer(prompt))


def _unit_tests(prompt: Prompt, check: Mapping[str, Any], response: str, sandbox: Sandbox | None) -> bool:
    if sandbox is None:
        raise UtilityError(f"the task {prompt.id} is checked by running code a model wrote: give a sandbox to run it in")
    text = program(check["prompt"], response, check["test"], check["entry_point"])
    return sandbox.run(text).passed


def _instructions(prompt: Prompt, check: Mapping[str, Any], response: str, sandbox: Sandbox | None) -> bool | None:
    return followed(response, check["instructions"]).right


def _answer(prompt: Prompt) -> str:
    if prompt.answer is None:
        raise UtilityError(f"the task {prompt.id} has no answer to compare with: add the right answer as text")
    return prompt.answer


CHECKS: Mapping[str, Callable[[Prompt, Mapping[str, Any], str, Sandbox | None], bool | None]] = {
    "number": _number,
    "boxed": _boxed,
    "unit_tests": _unit_tests,
    "instructions": _instructions,
}
"""Kinds of check: the last number; the last box, of mathematics; unit tests (prompt, test, entry_point); instructions."""
