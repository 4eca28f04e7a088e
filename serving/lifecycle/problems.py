"""Problems of a running endpoint, by part."""

from __future__ import annotations

import logging

log = logging.getLogger("sirl")


class Problems(dict[str, str]):
    """The problems that are known now, in sentences, by part: shown in `status`, logged once when one changes."""

    def note(self, part: str, message: str | None) -> None:
        """Say what is wrong with a part, or that nothing is any more."""
        if message is None:
            if self.pop(part, None) is not None:
                log.info("%s is sound again", part)
        elif self.get(part) != message:
            self[part] = message
            log.warning("%s: %s", part, message)
