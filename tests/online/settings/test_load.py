"""Settings from file, environment and flags, in that order; what is wrong is named with its source."""

from __future__ import annotations

from pathlib import Path

import pytest

from online.settings.load import SettingsError, load
from tests.online.settings.given import parse


def message(*flags: str, env: dict[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load(parse(*flags), env or {"XDG_STATE_HOME": "/nowhere"})
    text = str(caught.value)
    assert text.endswith(".") and "\n" not in text
    return text


def test_defaults(tmp_path: Path) -> None:
    settings = load(None, {"XDG_STATE_HOME": str(tmp_path)})
    assert settings.state_dir == tmp_path / "sirl-guard"
    assert (settings.update.steps, settings.buffer.url, settings.learn.min_contested) == (30, None, 200)
    assert load(None, {}).state_dir == Path("~/.local/state/sirl-guard").expanduser()


def test_each_source_overrides_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / "sirl.toml"
    file.write_text("[update]\nsteps = 1\nseed = 1\nthreads = 1\n[learn]\ninterval_s = 'none'\n")
    env = {"SIRL_CONFIG": str(file), "SIRL_UPDATE_SEED": "2", "SIRL_UPDATE_THREADS": "2"}
    settings = load(parse("--update-threads", "3"), env)
    assert (settings.update.steps, settings.update.seed, settings.update.threads) == (1, 2, 3)
    assert settings.learn.interval_s is None


def test_file_of_the_state_directory_is_found(tmp_path: Path) -> None:
    (tmp_path / "sirl.toml").write_text("[update]\nsteps = 7\n")
    assert load(parse("--state-dir", str(tmp_path)), {}).update.steps == 7
    assert load(None, {"SIRL_STATE_DIR": str(tmp_path)}).update.steps == 7


def test_unknown_keys_are_refused_by_name_with_the_nearest(tmp_path: Path) -> None:
    assert "SIRL_UPDATE_STEPPS" in message(env={"SIRL_UPDATE_STEPPS": "3"})
    assert "did you mean SIRL_UPDATE_STEPS" in message(env={"SIRL_UPDATE_STEPPS": "3"})
    file = tmp_path / "sirl.toml"
    for text, wanted in (
        ("[buffer]\nurll = 'x'\n", "did you mean buffer.url"),
        ("[bufer]\nurl = 'x'\n", "bufer"),
        ("buffer = 3\n", "[buffer]"),
        ("wholly_other = 1\n", "docs/reference/settings.md"),
    ):
        file.write_text(text)
        assert wanted in message("--config", str(file))
    load(None, {"SIRL_INTERNAL_ANYTHING": "1"})


def test_bad_values_name_their_source() -> None:
    assert "--update-steps" in message("--update-steps", "many")
    assert "SIRL_BUFFER_PLAIN_RATE" in message(env={"SIRL_BUFFER_PLAIN_RATE": "1.5"})
    assert "cron" in message("--learn-cron", "every day")
    assert "never comes" in message("--learn-cron", "0 0 30 2 *")
    assert "never the key itself" in message("--guard-no-store-keys", "my-key")
    assert "inf" in message("--gate-length", "inf")


def test_bad_files(tmp_path: Path) -> None:
    assert "cannot be read" in message("--config", str(tmp_path / "none.toml"))
    (tmp_path / "bad.toml").write_bytes(b"= \xff")
    assert "not valid TOML" in message("--config", str(tmp_path / "bad.toml"))
