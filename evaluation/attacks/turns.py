"""Chat turns, and where an attack's own stand in the prompt's."""

from evaluation.attacks.attack import Messages
from evaluation.suite import Message, Prompt


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


def instead(prompt: Prompt, turns: Messages) -> Messages:
    """The prompt's messages with these turns in the place of what the user says last."""
    at = max(i for i, message in enumerate(prompt.messages) if message.get("role") == "user")
    return (*prompt.messages[:at], *turns, *prompt.messages[at + 1 :])
