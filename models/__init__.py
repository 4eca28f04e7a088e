"""The models that come with sirl-guard, found beside this file in a checkout and in an installed wheel alike."""

from pathlib import Path

DEFAULT = "sirl-tiny"
FLIPPED = "sirl-tiny-flipped"
THINKING = "sirl-tiny-thinking"
NAMES = (DEFAULT, FLIPPED, THINKING)
SUITES = ("calibration", "validation", "gate", "test", "traffic")


def bundled(name: str = DEFAULT) -> Path:
    """Folder of a bundled model. Raises ValueError for an unknown name, FileNotFoundError if it is not there."""
    if name not in NAMES:
        raise ValueError(f"no bundled model is called {name!r}: choose one of {', '.join(NAMES)}")
    folder = Path(__file__).parent / name
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"the bundled model {name!r} is missing from {folder.parent}: reinstall, or build it "
            "with `python -m models.recipe build`"
        )
    return folder


def suite(split: str) -> Path:
    """Path of one bundled suite (calibration, validation, gate, test or traffic). All bundled models share them."""
    if split not in SUITES:
        raise ValueError(f"no bundled suite is called {split!r}: choose one of {', '.join(SUITES)}")
    return Path(__file__).parent / DEFAULT / "suites" / f"{split}.jsonl"
