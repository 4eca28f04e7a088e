"""A setting's names in file, environment and command line."""

from __future__ import annotations

from online.settings.key import PREFIX, TOP, keys


def test_a_setting_goes_by_three_names() -> None:
    (cron,) = (key for key in keys() if key.path == "learn.cron")
    assert (cron.env, cron.flag, cron.dest, cron.default) == ("SIRL_LEARN_CRON", "--learn-cron", "sirl_learn_cron", "none")
    (state,) = (key for key in keys() if key.path == "state_dir")
    assert state.group == TOP and (state.env, state.flag) == ("SIRL_STATE_DIR", "--state-dir")
    assert "XDG_STATE_HOME" in state.default


def test_no_two_settings_share_a_name() -> None:
    """`a.b_c` and `a_b.c` would be one in the environment."""
    found = list(keys())
    assert len(found) > 80 and all(key.env.startswith(PREFIX) for key in found)
    for name in ("path", "env", "flag", "dest"):
        assert len({getattr(key, name) for key in found}) == len(found)


def test_defaults_read_as_they_are_written() -> None:
    told = {key.path: key.default for key in keys()}
    assert told["guard.report"] == "`true`" and told["guard.no_store_keys"] == "none"
