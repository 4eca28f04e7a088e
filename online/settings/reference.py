"""The page docs/reference/settings.md, made from the settings themselves."""

from online.settings.key import TOP, keys
from online.settings.load import CONFIG_ENV
from online.settings.settings import Settings


def reference() -> str:
    """The page docs/reference/settings.md: every setting with its three names, default and meaning."""
    lines = [
        "# Settings",
        "",
        "From lowest to highest: the default, a TOML file, the environment, a command-line flag. The file is",
        f"the one named by `--config` (`--guard-config` for `sirl serve`) or `{CONFIG_ENV}`, else `sirl.toml`",
        "in the state directory if there is one. The word `none` empties a setting that may be empty.",
    ]
    heading = None
    for key in keys():
        if key.group != heading:
            heading = key.group
            about = "" if heading == TOP else f" [{heading}]"
            said = (
                "Where things are kept, and how prompts are written."
                if heading == TOP
                else Settings.model_fields[heading].description
            )
            lines += ["", f"##{about or ' Top level'}", "", said or "", ""]
            lines += ["| key | environment | flag | default | meaning |", "| --- | --- | --- | --- | --- |"]
        lines.append(f"| `{key.field}` | `{key.env}` | `{key.flag}` | {key.default} | {key.info.description} |")
    return "\n".join(lines) + "\n"
