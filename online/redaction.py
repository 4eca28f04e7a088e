"""Redaction: what names a person or opens a door is replaced in a text by the name of its kind, before the text is stored.

The built-in rules know shapes: mails, phones, cards, bank accounts, addresses of machines, keys and passwords, and names
where somebody introduces or addresses somebody. A name without such a cue takes a language model to see: Presidio, by the
extra `presidio`, adds its recognisers to these rules. What each finds in five languages: docs/security.md.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path

import phonenumbers

from online import OnlineError
from online.event import Event, prompt_hash
from online.options import BufferSettings

log = logging.getLogger("sirl")

Span = tuple[int, int, str]
"""Start, end and kind of what is to go."""
Finder = Callable[[str], Iterable[Span]]
"""What finds them in a text, what goes before first."""

MAIL = re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[\w-]{1,63}\.)+[^\W\d_]{2,}\b")
DIGITS = re.compile(r"(?<![\w.-])[+(]?\d(?:[ ().\-/\u00a0]{0,2}\d){6,18}(?![\w-])")
"""Figures in groups: a card, or a phone number."""
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z\d]{4}){2,7}(?: ?[A-Z\d]{1,3})?\b")
ADDRESS = re.compile(
    r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\.?\w)|(?<![\w:])(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4}(?![\w:])"
)
PRIVATE = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S)
ISSUED = re.compile(
    r"\b(?:sk-[\w-]{16,}|sk_(?:live|test)_\w{16,}|gh[pousr]_\w{30,}|github_pat_\w{30,}|glpat-[\w-]{16,}|hf_\w{20,}"
    r"|A(?:KIA|SIA)[A-Z0-9]{16}|AIza[\w-]{30,}|xox[abprs]-[\w-]{10,}|SG\.[\w-]{16,}\.[\w-]{16,}"
    r"|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)"
)
"""Keys by the shape that their issuers give them."""
TOLD = re.compile(
    r"(?i)(?:pass(?:word|phrase|wort|wd)?|kennwort|mot de passe|contraseña|clave|parola d'ordine|api[ _-]?key"
    r"|access[ _-]?key|secret|token)(?:[ _-]?(?:key|id))?[\"']?"
    r"(?:\s*[:=]\s*|\s+(?:is|ist|lautet|est|es|è)\s*:?\s+)[\"']?(?P<it>[^\s\"',;]{6,})"
)
"""A password or key that is said to be one, in five languages."""
RANDOM = re.compile(
    r"(?<![\w/+-])(?=[\w/+-]*[a-z])(?=[\w/+-]*[A-Z])(?=(?:[\w/+-]*?\d){3})[\w/+-]{24,}={0,2}(?![\w/+-])", re.ASCII
)
"""What is long and mixes capitals, small letters and figures, as no word or digest does."""
LOGIN = re.compile(r"\b[a-z][a-z0-9+.-]{0,20}://[^\s/:@]{1,256}:(?P<it>[^\s/@]{1,256})@")
CAPITALISED = r"[A-ZÀ-Þ][\wÀ-ɏ'’-]+"
NAME = re.compile(
    r"(?:\b(?i:my name is|my name's|call me|signed|regards,|sincerely,|faithfully,?|dear(?! sir)"
    r"|mein name ist|ich hei(?:ß|ss)e|gr(?:ü|ue)(?:ß|ss)en?,|liebe[r]?|je m['’]appelle|mon nom est|cordialement,|cher|chère"
    r"|me llamo|mi nombre es|saludos,|estimad[oa]|mi chiamo|il mio nome è|saluti,|car[oa]|gentile)"
    r"|\b(?i:(?:full |first |last )?name|from|customer|patient|owner|kund(?:e|in)|nachname|vorname|absender|nom|prénom"
    r"|client|nombre|apellidos?|cliente|nome|cognome|mittente):"
    r"|\b(?:Mr|Mrs|Ms|Dr|Prof|Sr|Sra|Sig|Dott|M)\.?|\b(?:Herrn?|Frau|Monsieur|Madame|Mme|Señora?|Signora?|Don|Doña))"
    rf"\s+(?P<it>{CAPITALISED}(?:[^\S\n]+(?:(?:de|del|della|di|von|van|der|du|la|le)\s+)*{CAPITALISED}){{0,2}})"
)
"""A name after a cue, in five languages; the cue stays."""
PATTERNS = (
    (PRIVATE, "KEY"),
    (LOGIN, "KEY"),
    (ISSUED, "KEY"),
    (TOLD, "KEY"),
    (RANDOM, "KEY"),
    (MAIL, "EMAIL"),
    (NAME, "NAME"),
)
"""What goes by its shape alone, what goes before first."""
PIECE, OVERLAP = 16_384, 512
"""Characters that are searched at once, and by how much pieces overlap, for what lies across."""
CHECKS = 200
"""Numbers of a piece that are looked up in the phone plans of the world."""
REGIONS = {True: ("GB", "DE", "FR", "IT", "US"), False: ("US", "ES", "IT")}
"""Whose numbers are known without their country code: of those that begin with a nought or a bracket, and of the others."""
ENTITIES = {
    "PERSON": "NAME", "PHONE_NUMBER": "PHONE", "CREDIT_CARD": "CARD", "IBAN_CODE": "IBAN", "IP_ADDRESS": "IP",
    "CRYPTO": "KEY",
}  # fmt: skip
"""What Presidio calls the kinds. Mails are found without it, which would ask the network for a list of domains."""


class RedactionError(OnlineError):
    """A redactor that is asked for is not installed."""


def spans(text: str) -> Iterator[Span]:
    """All that the built-in rules find, piece by piece: one search through all of a long text would hold up the others."""
    for start in range(0, max(1, len(text)), PIECE):
        for begin, end, kind in _found(text[start : start + PIECE + OVERLAP]):
            yield start + begin, start + end, kind


def _found(text: str) -> Iterator[Span]:
    for pattern, kind in PATTERNS:
        for found in pattern.finditer(text):
            group = "it" if "it" in pattern.groupindex else 0
            yield found.start(group), found.end(group), kind
    for pattern, kind, checked in ((IBAN, "IBAN", is_iban), (ADDRESS, "IP", is_address)):
        for found in pattern.finditer(text):
            if checked(found[0]):
                yield *found.span(), kind
    left = CHECKS  # a text of nothing but figures would take minutes: what comes after so many goes unasked
    for found in DIGITS.finditer(text):
        left -= 1
        if is_card(found[0]):
            yield *found.span(), "CARD"
        elif left < 0 or is_phone(found[0]):
            yield *found.span(), "PHONE"


def redact(text: str, find: Finder = spans) -> str:
    """The text with each span replaced by the name of its kind, such as <EMAIL>; spans that overlap become one, of the kind
    that was found first."""
    found = [(start, end, rank, kind) for rank, (start, end, kind) in enumerate(find(text))]
    parts, at = [], 0
    for start, end, kind in _merged(found):
        parts += [text[at:start], f"<{kind}>"]
        at = end
    return "".join(parts) + text[at:]


def _merged(found: Iterable[tuple[int, int, int, str]]) -> Iterator[Span]:
    last: tuple[int, int, int, str] | None = None
    for start, end, rank, kind in sorted(found):
        if last is not None and start < last[1]:
            rank, kind = min((last[2], last[3]), (rank, kind))
            last = last[0], max(last[1], end), rank, kind
            continue
        if last is not None:
            yield last[0], last[1], last[3]
        last = start, end, rank, kind
    if last is not None:
        yield last[0], last[1], last[3]


def is_card(digits: str) -> bool:
    """13 to 19 figures with Luhn's check digit (ISO/IEC 7812)."""
    figures = [int(c) for c in digits if c.isdigit()][::-1]
    doubled = (sum(divmod(2 * figure, 10)) if at % 2 else figure for at, figure in enumerate(figures))
    return 13 <= len(figures) <= 19 and len(set(figures)) > 1 and sum(doubled) % 10 == 0


def is_iban(text: str) -> bool:
    """With its check digits (ISO 13616: the number modulo 97 is 1)."""
    bare = text.replace(" ", "")
    return 15 <= len(bare) <= 34 and int("".join(str(int(c, 36)) for c in bare[4:] + bare[:4])) % 97 == 1


def is_address(text: str) -> bool:
    """An address of a machine; what has but two figures, such as "a::", is none that anybody means."""
    try:
        return sum(map(str.isalnum, text)) > 2 and bool(ip_address(text))
    except ValueError:
        return False


def is_phone(text: str) -> bool:
    """A number of a length that its country has, where it comes with its code; one that a country of REGIONS gives out, as
    they write it at home. Figures with neither a nought before nor a gap are just figures."""
    if not (text[0] in "+(0" or re.search(r"\d[ ().\-/\u00a0]", text)):
        return False
    for region in (None,) if text[0] == "+" else REGIONS[text[0] in "(0"]:
        try:
            number = phonenumbers.parse(text, region)
            if phonenumbers.is_valid_number(number) or (region is None and phonenumbers.is_possible_number(number)):
                return True
        except phonenumbers.NumberParseException:
            continue
    return False


def presidio(pipelines: Mapping[str, str]) -> Finder:
    """Presidio's recognisers beside the built-in rules, with a spaCy pipeline a language, such as {"en": "en_core_web_lg"}.

    Raises RedactionError where it, or a pipeline, is not installed.
    """
    try:
        from presidio_analyzer import AnalyzerEngine
        from presidio_analyzer.nlp_engine import NlpEngineProvider
    except ImportError:
        raise RedactionError("Presidio is not installed: pip install 'sirl-guard[presidio]'.") from None
    for name in pipelines.values():
        if not Path(name).is_dir() and (not name.isidentifier() or find_spec(name) is None):  # Presidio would download it
            raise RedactionError(f"the spaCy pipeline {name} is not installed: python -m spacy download {name}.")
    models = [{"lang_code": language, "model_name": name} for language, name in pipelines.items()]
    engine = NlpEngineProvider(nlp_configuration={"nlp_engine_name": "spacy", "models": models}).create_engine()
    analyzer = AnalyzerEngine(nlp_engine=engine, supported_languages=list(pipelines))

    def find(text: str) -> Iterator[Span]:
        yield from spans(text)
        for language in pipelines:
            for found in analyzer.analyze(text, language, entities=list(ENTITIES)):
                yield found.start, found.end, ENTITIES[found.entity_type]

    return find


@dataclass(frozen=True, slots=True)
class Redaction:
    """Makes events ones that may be stored. `encode`: text -> token ids of the model, with no special token added."""

    find: Finder
    encode: Callable[[str], Sequence[int]]

    def __call__(self, event: Event) -> Event:
        """The event with its texts redacted, and tokens that say no more than they do."""
        prompt, response = redact(event.prompt, self.find), redact(event.response, self.find)
        if prompt != event.prompt:
            event = replace(event, prompt=prompt, prompt_tokens=tuple(self.encode(prompt)))
        if response != event.response:  # its entropies belonged to other tokens; their mean stays
            event = replace(event, response=response, response_tokens=tuple(self.encode(response)), entropies=())
        return event


def without_text(event: Event, salt: str) -> Event:
    """The event with nothing in it that can be read: a salted hash in the place of its prompt."""
    digest = f"<{prompt_hash(event.prompt_tokens, salt)}>"
    return replace(event, prompt=digest, prompt_tokens=(), response="", response_tokens=(), entropies=())


class Preparation:
    """What is done to an event before it is stored, by `buffer.text`. An event on which that breaks is kept without text."""

    def __init__(self, settings: BufferSettings, encode: Callable[[str], Sequence[int]], salt: str) -> None:
        self.text, self.salt, self._broken = settings.text, salt, False
        self.redaction = Redaction(presidio(settings.presidio) if settings.presidio else spans, encode)

    def __call__(self, event: Event) -> Event:
        if self.text == "full":
            return event
        if self.text == "redacted":
            try:
                return self.redaction(event)
            except Exception:  # of others' recognisers: what they choke on must neither be stored whole nor stop us
                if not self._broken:
                    log.warning("Redaction broke; such events are kept without their text.", exc_info=True)
                self._broken = True
        return without_text(event, self.salt)
