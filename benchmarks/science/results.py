"""docs/science/results.json: every finished run, kept at once, and not run again while what it was made from is the same."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from online.state.files import write_atomic


class Results:
    """The runs, by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs: dict[str, dict[str, Any]] = json.loads(path.read_text())["runs"] if path.exists() else {}

    def done(self, names: Sequence[str], base: int, seed: int, key: str) -> bool:
        return all(self.runs.get(name_of(name, base, seed), {}).get("key") == key for name in names)

    def keep(self, run: str, base: int, seed: int, key: str, found: Mapping[str, Any], facts: Mapping[str, object]) -> None:
        """`found` as it is, with the base's own figures on the same prompts beside it as "before"."""
        bare = found if run == "base" else self.runs[name_of("base", base, 0)]
        if found["prompts"] != bare["prompts"]:
            bare = bare["part"]
        about = {"run": run, "base": base, "seed": seed, "key": key, "date": datetime.now(UTC).date().isoformat()}
        self.runs[name_of(run, base, seed)] = {**about, **facts, "before": bare["after"], **found}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path, json.dumps({"runs": self.runs}, indent=None, separators=(",", ":")) + "\n")

    def of(self, base: int, run: str) -> list[dict[str, Any]]:
        """All records of a run on a base, a seed each."""
        return [one for one in self.runs.values() if one["base"] == base and one["run"] == run]


def name_of(run: str, base: int, seed: int) -> str:
    return f"{run}, base {base}, seed {seed}"
