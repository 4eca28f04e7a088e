"""lm-eval's tasks on the endpoint under test, by lm-eval itself (the extra `lm-eval`): utility as others measure it."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from evaluation.endpoint import Endpoint
from guard.errors import SirlError


class HarnessError(SirlError):
    """lm-eval cannot be run, or did not end well; one sentence with cause and mend."""


def lm_eval(tasks: str, target: Endpoint, out: Path, python: Path | None = None, *flags: str) -> dict[str, Any]:
    """Metrics by task, as lm-eval reports them, of tasks with commas between that generate (chat completions give no
    likelihoods). `python`: of an environment that has lm-eval; its log stays in `out`, for it holds prompts."""
    if python is None and find_spec("lm_eval") is None:
        raise HarnessError("lm-eval is not installed: pip install 'sirl-guard[lm-eval]'.")
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    about = {"model": target.model, "base_url": f"{target.url}/chat/completions", "num_concurrent": target.at_once}
    command = [str(python or sys.executable), "-I", "-m", "lm_eval", "--model", "local-chat-completions"]
    command += ["--model_args", ",".join(f"{key}={value}" for key, value in about.items()), "--apply_chat_template"]
    command += ["--tasks", tasks, "--output_path", str(out / "results"), *flags]
    if target.extra:
        command += ["--gen_kwargs", ",".join(f"{key}={value}" for key, value in target.extra.items())]
    # lm-eval looks for its key in OPENAI_API_KEY, and insists on one.
    environment = {**os.environ, "OPENAI_API_KEY": os.environ.get(target.key) or "none"}
    with (out / "lm-eval.log").open("w") as log:
        done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    found = sorted((out / "results").rglob("results_*.json"))
    if done.returncode or not found:
        raise HarnessError(f"lm-eval ended with status {done.returncode}: {out / 'lm-eval.log'} says why.")
    results: dict[str, Any] = json.loads(found[-1].read_text())["results"]
    return results
