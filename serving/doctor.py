"""`sirl doctor`: is what is installed sound, can the model be served, is the probe exact, is the calibration current?"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from guard.calibration import Calibration, CalibrationError, Conditions
from guard.errors import SirlError
from online.calibration.calibrate import digest
from online.events.buffer import Buffer, EarlierSchemaError
from online.model.conditions import declared_quantization, read_template, template_of
from online.model.fingerprint import fingerprint
from online.model.precision import precision_for
from online.operations.suites import suites_for
from online.registry.registry import Registry
from online.settings.settings import Settings
from online.state.directory import StateDir
from online.state.finding import Finding
from online.updates.history import happened
from serving.engine.version import EngineError, require_supported
from serving.model_check import check
from serving.processes import interpreter

PACKAGES = ("torch", "transformers", "peft", "fastapi", "prometheus-client", "sqlalchemy", "numpy")
TRAPS = ("torchvision", "torchaudio", "torchcodec")
TOLERANCE, SENSE_TOLERANCE = 1e-4, 1e-3
"""Of an entropy, in nats, and of the harm sense, in log-odds."""
UNKNOWN = "unknown"
SELF_TEST_LIMIT_S = 240


def examine(settings: Settings, model: Path, *, fast: bool = False) -> Iterator[Finding]:
    """Every finding, the cheap ones first; `fast` leaves out the engine's self-test."""
    yield from installed()
    model_findings = list(servable(model))
    yield from model_findings
    if any(finding.level == "error" for finding in model_findings):
        return  # nothing below can be told of a model that cannot be read
    yield from sound(settings, model)
    found = conditions(settings, model)
    yield from templated(found)
    yield from calibrated(settings, model, None if isinstance(found, SirlError) else found)
    if not fast:
        yield from exact(settings, model)


def installed() -> Iterator[Finding]:
    for name in PACKAGES:
        yield Finding("ok", name, metadata.version(name))
    try:
        yield Finding("ok", "engine", " ".join(require_supported()))
    except EngineError as error:
        yield Finding("error", "engine", str(error))
    import torch

    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU only"
    yield Finding("ok", "device", device)
    runner = os.environ.get("VLLM_USE_V2_MODEL_RUNNER", "0")
    if runner == "1":
        yield Finding("error", "runner", "VLLM_USE_V2_MODEL_RUNNER=1: the probe reads the V1 runner; unset it.")
    else:
        yield Finding("ok", "runner", "V1")
    if traps := [name for name in TRAPS if importlib.util.find_spec(name)]:
        names = " ".join(traps)
        yield Finding("error", "torch trap", f"{names} may break transformers beside this torch: pip uninstall {names}.")


def servable(model: Path) -> Iterator[Finding]:
    try:
        check(model)
    except SirlError as error:
        yield Finding("error", "model", str(error))
    else:
        yield Finding("ok", "model", str(model))


def sound(settings: Settings, model: Path) -> Iterator[Finding]:
    """State directory, buffer and registry."""
    try:
        state = StateDir(settings.state_dir)
    except SirlError as error:
        yield Finding("error", "state directory", str(error))
        return
    yield from state.check()
    try:
        buffer = Buffer(settings.buffer.url or state.buffer_url, settings.buffer, upgrade=False)
        counts = buffer.counts()
        buffer.close()
        yield Finding("ok", "buffer", ", ".join(f"{n} {verdict}" for verdict, n in counts.items()) or "empty")
        if buffer.remark:
            yield Finding("warning", "buffer", buffer.remark)
    except EarlierSchemaError as error:
        yield Finding("warning", "buffer", str(error))
    except SirlError as error:
        yield Finding("error", "buffer", str(error))
    if settings.buffer.text == "hash":
        yield Finding("warning", "learning", "buffer.text = 'hash' keeps nothing to learn from: every update is refused.")
    try:
        registry = Registry(state, fingerprint(model), settings.registry)
    except SirlError as error:  # its keys, or its store's URL
        yield Finding("error", "registry", str(error))
    else:
        yield from registered(registry)
    yield from happened(state)


def registered(registry: Registry) -> Iterator[Finding]:
    """The versions, what vouches for them, and the store they are shared by."""
    try:
        live, versions = registry.live(), registry.versions()
        for adapter in versions:
            if adapter.state not in ("collected", "forgotten"):
                registry.verify(adapter.version)
        yield Finding("ok", "registry", f"{len(versions)} versions, live: {'base' if live is None else f'v{live}'}")
    except SirlError as error:
        yield Finding("error", "registry", str(error))
    keys = registry.keys
    if keys.mute:
        yield Finding("ok", "keys", f"{len(keys.trusted)} trusted; without registry.signing_key nothing is published here")
    elif keys.trusted:
        yield Finding("ok", "keys", f"what is published is signed; {len(keys.trusted)} trusted")
    if registry.store is not None:
        try:
            yield Finding("ok", "store", f"reachable, with {len(registry.store.numbers())} versions")
        except SirlError as error:
            yield Finding("error", "store", str(error))


def conditions(settings: Settings, model: Path) -> Conditions | SirlError:
    """What the model runs under by its files and the settings, or why that cannot be told."""
    from transformers import AutoTokenizer

    try:
        template = read_template(settings.chat_template)
        if template is None:
            template = template_of(AutoTokenizer.from_pretrained(model, local_files_only=True))
    except SirlError as error:
        return error
    except (OSError, ValueError, ImportError) as error:
        return SirlError(f"The tokenizer of {model} cannot be loaded: {str(error).splitlines()[0]}")
    quantization = declared_quantization(model)
    dtype = UNKNOWN if quantization and settings.dtype == "auto" else precision_for(model, settings.dtype).dtype
    return Conditions.of(template, dtype, quantization, settings.chat_template_kwargs)


def templated(found: Conditions | SirlError) -> Iterator[Finding]:
    if isinstance(found, SirlError):
        yield Finding("error", "chat template", str(found))
    elif found.template is None:
        said = "There is none, so nothing can be calibrated or learned: give one with --chat-template FILE."
        yield Finding("warning", "chat template", said)
    else:
        yield Finding("ok", "chat template", found.template)


def calibrated(settings: Settings, model: Path, runs: Conditions | None) -> Iterator[Finding]:
    """Whether base and live adapter have a calibration of this very model, made for how it `runs`."""
    try:
        state, identity = StateDir(settings.state_dir), fingerprint(model)
        live = Registry(state, identity, settings.registry).live()
    except SirlError:
        return  # reported by `sound`
    for name in ("base", *([f"v{live}"] if live else [])):
        path = state.find_calibration(name, model)
        try:
            found = Calibration.load(path)
        except CalibrationError as error:
            yield Finding("warning", f"calibration of {name}", str(error))
            continue
        if found.model != identity:
            yield Finding("warning", f"calibration of {name}", f"{path} is another model's: run `sirl calibrate`.")
        elif runs is not None and (other := found.unlike(runs)):
            yield Finding("warning", f"calibration of {name}", f"{path} was made for {other}: run `sirl calibrate`.")
        elif other := measured_unlike(settings, model, found):
            yield Finding("warning", f"calibration of {name}", f"{path} was made with {other}: run `sirl calibrate`.")
        elif runs and found.conditions and runs.dtype not in (UNKNOWN, found.conditions.dtype):
            yield Finding("warning", f"calibration of {name}", f"{path} {found.reservation(runs)}: run `sirl calibrate`.")
        else:
            dtype = found.conditions.dtype if found.conditions else "a dtype and chat template that it does not say"
            said = f"of {found.created}, {len(found.openings.sequences)} openings, in {dtype}"
            yield Finding("ok", f"calibration of {name}", said)


def measured_unlike(settings: Settings, model: Path, found: Calibration) -> str | None:
    """By what else a calibration was measured than an update would; None where that cannot be told."""
    try:
        suites = suites_for(model, settings)
    except SirlError:  # an update says so
        return None
    return None if suites is None else found.measured_unlike(suites.named, digest(suites.calibration))


def exact(settings: Settings, model: Path) -> Iterator[Finding]:
    """Run the engine's self-test in a process of its own: the probe, and the harm sense where the base's calibration has
    one, against a forward pass of the same tokens."""
    started = time.monotonic()
    try:
        path = StateDir(settings.state_dir).find_calibration("base", model)
        sensed = [str(path)] if Calibration.load(path).sense is not None else []
    except SirlError:  # reported by `calibrated`
        sensed = []
    try:
        run = subprocess.run(
            interpreter.command("serving.engine.selftest", str(model), *sensed),
            env=interpreter.environment(),
            capture_output=True,
            text=True,
            timeout=SELF_TEST_LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        yield Finding("error", "probe", f"The self-test did not end within {SELF_TEST_LIMIT_S} s: try `sirl serve`.")
        return
    lines = [line for line in run.stdout.splitlines() if line.startswith("{")]
    if run.returncode or not lines:
        last = (run.stderr.strip().splitlines() or ["no output"])[-1]
        yield Finding("error", "probe", f"The engine did not run the self-test ({last}): try `sirl serve`.")
        return
    result = json.loads(lines[-1])
    worst, tokens, seconds = result["worst"], result["tokens"], time.monotonic() - started
    if not worst <= TOLERANCE:  # a NaN is not within any tolerance
        yield Finding("error", "probe", f"Entropies are off by up to {worst:.2g} nats over {tokens} tokens: report this.")
    else:
        yield Finding("ok", "probe", f"exact to {worst:.1g} nats over {tokens} tokens ({seconds:.0f} s)")
    if result["unread"]:
        yield Finding("warning", "harm sense", result["unread"])
    elif (off := result.get("harm")) is None:
        return
    elif not off <= SENSE_TOLERANCE:
        yield Finding("error", "harm sense", f"What it reads is off by up to {off:.2g} in log-odds: report this.")
    else:
        yield Finding("ok", "harm sense", f"exact to {off:.1g} in log-odds")
