"""What is said in a query, what is put in its place, and the asking of several at once."""

import asyncio
from collections.abc import Iterable, Sequence

from evaluation.attacks.attack import Messages, Query
from evaluation.endpoint import Reply, Target
from evaluation.suite import Message


def words(message: Message) -> str:
    """The text of a message, of its parts where it has some."""
    content = message.get("content") or ""
    return content if isinstance(content, str) else " ".join(str(part.get("text", "")) for part in content)


def asked(messages: Sequence[Message]) -> str:
    """What the user says last; empty where no user says anything."""
    return next((words(message) for message in reversed(messages) if message.get("role") == "user"), "")


def replaced(messages: Messages, text: str) -> Messages:
    """The messages with other words in the place of what the user says last."""
    places = [i for i, message in enumerate(messages) if message.get("role") == "user"]
    if not places:
        return messages
    at = places[-1]
    return (*messages[:at], {**messages[at], "content": text}, *messages[at + 1 :])


async def together(target: Target, queries: Iterable[tuple[Query, int]]) -> list[Reply]:
    """The replies to queries with their seeds, in order. Where several fail, one error stands for all."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(target.ask(query, seed)) for query, seed in queries]
    except ExceptionGroup as several:
        raise several.exceptions[0] from None
    return [task.result() for task in tasks]
