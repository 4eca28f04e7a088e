"""Recognisers: rules that find personal data and secrets in a text by their shape and their neighbours.

Texts come from strangers, and some are made to stall a search. So each pattern has one way to match: what it repeats is
bounded or possessive, and it starts once in a run of like characters. Their tests hold them to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address

import phonenumbers

from online.events.ordinary_words import NO_SECRET, ROLES, SPEECH, TITLED

Span = tuple[int, int, str]
"""Start, end and kind of what is to go."""
Finder = Callable[[str], Iterable[Span]]
"""What finds them in a text, what goes before first."""
Place = tuple[int, int]
"""Start and end."""

PIECE, OVERLAP = 16_384, 512
"""Characters that are searched at once, and by how much pieces overlap, for what lies across."""
CHECKS = 200
"""Numbers of a piece that are looked up in the phone plans of the world."""
REGIONS = {True: ("GB", "DE", "FR", "IT", "US"), False: ("US", "ES", "IT")}
"""Whose numbers are known without their country code: of those that begin with a nought or a bracket, and of the others."""

MAIL = re.compile(r"(?<![\w.+%-])(?!git@)[\w.+%-]{1,64}+@(?:[\w-]{1,63}+\.){1,8}[^\W\d_]{2,24}\b")
"""`git@host` is how everybody reaches a code host."""
DATE = (
    r"(?:(?:19|20)\d\d[-./](?:0?[1-9]|1[0-2])[-./](?:[12]\d|3[01]|0?[1-9])"
    r"|(?:[12]\d|3[01]|0?[1-9])[-./](?:[12]\d|3[01]|0?[1-9])[-./](?:19|20)\d\d)(?!\d)(?:[T ]{1,2}\d\d(?=:))?"
)
DIGITS = re.compile(
    rf"(?<![\w.-])(?:{DATE}|(?i:ISBN|ISSN)[ :-]{{0,2}}(?:1[03][ :]{{1,2}})?\d[\d -]{{6,16}}[\dX]"
    r"|(?P<it>\(?\+?\d(?:[ ().\-/\u00a0]{0,2}+\d){6,18}(?![\w-])))"
)
"""Figures in groups: a card, or a phone number. Dates and numbers of books are passed over."""
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z\d]{4}){2,7}(?: ?[A-Z\d]{1,3})?\b")
ADDRESS = re.compile(
    r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\.?\w)|(?<![\w:])(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4}(?![\w:])"
)
VERSIONED = re.compile(
    r"(?i)(?:\b(?:versi[oó]n(?:s|e|i|es|en)?|vers?|v|releases?|builds?|firmware|kernel|driver|oid|rfc|sections?|sec|chapters?"
    r"|clauses?|articles?|paragraphs?|appendix|figures?|fig|tables?|exercises?|abschnitt|kapitel|ziffer|cap[ií]tulo"
    r"|secci[oó]n|chapitre|sezione|capitolo)|§)[\s.:#(\"'v]{0,4}"
    r"(?:\d[\d.]{0,15}[\s,]{0,2}(?:to|and|or|und|bis|oder|et|ou|à|y|o|a|e|through|,|-|–|->|→)[\s,]{0,2}){0,4}$"
    r"|(?:[a-z][/-]|[=~<>]=|[~^])$"
)
"""What stands before a number of four parts that counts versions or headings: "version 4.18.2.0 to ", "Chrome/", "§ "."""
VERSION_AFTER = re.compile(r"(?i)\s(?:release|version|build|firmware|update|patch|kernel)s?\b")
PRIVATE = re.compile(
    r"-----BEGIN (?:[A-Z]{2,12} ){0,4}PRIVATE KEY-----.*?(?:-----END (?:[A-Z]{2,12} ){0,4}PRIVATE KEY-----|\Z)", re.S
)
ISSUED = re.compile(
    r"\b(?:sk-[\w-]{16,}+|sk_(?:live|test)_\w{16,}+|gh[pousr]_\w{30,}+|github_pat_\w{30,}+|glpat-[\w-]{16,}+|hf_\w{20,}+"
    r"|A(?:KIA|SIA)[A-Z0-9]{16}|AIza[\w-]{30,}+|xox[abprs]-[\w-]{10,}+|SG\.[\w-]{16,128}+\.[\w-]{16,}+"
    r"|(?<![\w-])eyJ[\w-]{8,}+\.[\w-]{8,}+\.[\w-]*+)"
)
"""Keys by the shape that their issuers give them."""
TOLD = re.compile(
    r"(?i)(?:(?P<sure>password|passphrase|passwor?t|passwd|(?<![^\W_])pwd|kennwort|mot de passe|contraseña|parola d'ordine"
    r"|api[ _-]?key|access[ _-]?key)|(?<![^\W_])pass|clave|secret|token)(?:[ _-]?(?:key|id))?[\"']?"
    r"(?:\s{0,4}+(?P<set>[:=])\s{0,4}+|(?P<gap>(?: {1,2}+[^\W\d_]{1,15}+(?:['’][^\W\d_]{1,15}+)?){0,4}?)"
    r"\s{1,4}+(?:is|ist|lautet|est|c['’]est|es|è)(?:\s{0,4}+(?P<told>:)\s{0,4}+|\s{1,4}+))"
    r"(?P<quote>[\"'])?(?P<it>[^\s\"',;]{6,}+)"
)
"""A password or key that is said to be one, in five languages."""
RANDOM = re.compile(r"(?<![\w/+-])[\w/+-]{24,}+(?:={1,2}(?![\w/+-]))?", re.ASCII)
LOGIN = re.compile(r"\b[a-z][a-z0-9+.-]{0,20}+://[^\s/:@]{1,256}+:(?P<it>[^\s/@]{1,256}+)@")
CAPITALISED = r"[A-ZÀ-Þ](?:[^\W\d_]{1,40}+|(?=['’]))(?:['’-][^\W\d_]{1,40}+){0,3}+(?!-?\w)"
TITLE = (
    r"\b(?:Mr|Mrs|Ms|Dr|Prof|Sr|Sra|Sig|Dott|(?<![A-Z]\.)(?<![A-Z]\. )M(?=\.))(?!\w)\.?"
    r"|\b(?:Herrn?|Frau|Monsieur|Madame|Mme|Señora?|Signora?|Don|Doña)(?!\w)"
)
NAME = re.compile(
    r"(?:\b(?i:my name is|my name's|call me|signed|regards,|sincerely,|faithfully,?|dear(?! sir)"
    r"|mein name ist|ich hei(?:ß|ss)e|gr(?:ü|ue)(?:ß|ss)en?,|liebe[r]?|je m['’]appelle|mon nom est|cordialement,|cher|chère"
    r"|me llamo|mi nombre es|saludos,|estimad[oa]|mi chiamo|il mio nome è|saluti,|car[oa]|gentile)"
    r"|(?P<field>\b(?i:(?:full |first |last )?name|from|customer|patient|owner|kund(?:e|in)|nachname|vorname|absender|nom"
    rf"|prénom|client|nombre|apellidos?|cliente|nome|cognome|mittente):)|(?P<title>{TITLE}))"
    rf"\s{{1,4}}+(?:(?:{TITLE})\s{{1,4}}+){{0,2}}"
    rf"(?P<it>{CAPITALISED}(?:[^\S\n]{{1,4}}+(?:(?:de|del|della|di|von|van|der|du|la|le)[^\S\n]{{1,4}}+){{0,3}}+{CAPITALISED})"
    r"{0,2})"
)
"""A name after a cue, in five languages; the cue stays."""


def _whole(found: re.Match[str]) -> Place | None:
    return found.span("it" if "it" in found.re.groupindex else 0)


def _issued(found: re.Match[str]) -> Place | None:
    """A key has figures or mixed capitals in it, where words in a row, such as sk-learn-compatible-estimator, have none."""
    return found.span() if re.search(r"\d|[a-z][A-Z]", found[0]) else None


def _random(found: re.Match[str]) -> Place | None:
    """What is long and mixes capitals, small letters and figures, as no word or digest does."""
    text = found[0]
    mixed = re.search("[a-z]", text) and re.search("[A-Z]", text) and sum(map(str.isdigit, text)) >= 3
    return found.span() if mixed else None


NO_VALUE = re.compile(
    r"[$%]?[{(\[<]|\$(?:[A-Z_][A-Z0-9_]*|[a-z_]+)$|%\w$|https?://|[A-Za-z_][A-Za-z_.]*[(\[][^!?#$%&@^~]*$"
    r"|[A-Za-z_]+(?:\.[A-Za-z_]+)+$"
)
"""What stands for a value: a variable, a placeholder, an expression, a link."""
MEASURE = re.compile(
    r"(?i)\d{1,5}-?(?:bits?|bytes?|chars?|characters?|digits?|letters?|words?|days?|hours?|minutes?|seconds?|weeks?|months?"
    r"|years?|[kmg]b|stellig|zeichen|caract[eè]res|caratteri)"
    r"|[\w-]+-(?:encoded|encrypted|hashed|signed|based|bit|only|long|like|compatible|protected|separated|generated|sensitive)"
)
"""A size or a manner: 2048-bit, base64-encoded."""
WORD = re.compile(r"[^\W\d_]+(?:[-'’_/.][^\W\d_]+)*$")


def _secret(found: re.Match[str]) -> Place | None:
    """What is said to be a password and looks like one. After "is" words tell of it ("is incorrect"), and are none. Set with
    a colon or an equals sign, a single word is one unless it says what kind of thing belongs there."""
    value = found["it"]
    bare = value.strip(".!?:*`_…()<>[]{}|#-")
    if found["gap"] and not found["sure"]:
        return None  # "the pass for the exam is": too many things are called so
    if NO_VALUE.match(value) or MEASURE.fullmatch(bare) or not (re.search(r"[^\W\d_]", bare) or bare.isdigit()):
        return None
    if WORD.fullmatch(bare):
        if len(re.findall(r"(?<=[a-z])[A-Z]", bare)) >= 3:
            return found.span("it")
        goes_on = re.match(r"[^\S\n]+[\w(]", found.string[found.end() : found.end() + 16])
        shouted = "_" in bare and bare.isupper()
        given = found["set"] or found["told"]
        if not given or shouted or bare.casefold() in NO_SECRET or ((goes_on or "\n" in found[0]) and not found["quote"]):
            return None
    return found.span("it")


def _person(found: re.Match[str]) -> Place | None:
    """The name without what follows it: "'s", a role, the next field. None for a role, a brand or a whole sentence."""
    start, end = found.span("it")
    words = [(word[0], start + word.end()) for word in re.finditer(r"\S+", found["it"])]
    rest = found.string[end : end + 4]
    if rest.startswith(":") and len(words) > 1:
        words.pop()
    bare = [_bare(word) for word, _ in words]
    if bare[0] in ROLES | SPEECH or (found["title"] and bare[0] in TITLED) or (len(bare) > 1 and bare[1] in ROLES):
        return None
    words = words[: next((at for at, word in enumerate(bare) if word in ROLES | SPEECH), None)]
    first = words[0][0]
    if len(words) > 1 and len(first) > 2 and first.isupper() and not words[1][0].isupper():
        return None  # an acronym, of an organisation
    if found["field"] and re.match(r"[^\S\n]*[!?]|[^\S\n]+[^\W_]" if len(words) == 1 else r"[^\S\n]+[A-Z\d]", rest):
        return None  # what somebody says, or what a thing is called
    last, end = words[-1]
    return start, end - (2 if re.search(r"['’]s$", last) else 0)


def _bare(word: str) -> str:
    return re.sub(r"['’]\w+$", "", word).casefold()


def _account(found: re.Match[str]) -> Place | None:
    return found.span() if is_iban(found[0]) else None


def _machine(found: re.Match[str]) -> Place | None:
    """An address that tells one machine from others, and is no number of a version or a heading."""
    start, end = found.span()
    before, after = found.string[max(0, start - 80) : start], found.string[end : end + 10]
    counted = ":" not in found[0] and (VERSIONED.search(before) or VERSION_AFTER.match(after))
    return None if counted or not is_address(found[0]) else (start, end)


@dataclass(frozen=True, slots=True)
class Recogniser:
    """A pattern, the kind of what it finds, and what looks at each find: where that is which is to go, or None."""

    pattern: re.Pattern[str]
    kind: str
    place: Callable[[re.Match[str]], Place | None] = _whole


RULES = (
    Recogniser(PRIVATE, "KEY"),
    Recogniser(LOGIN, "KEY"),
    Recogniser(ISSUED, "KEY", _issued),
    Recogniser(TOLD, "KEY", _secret),
    Recogniser(RANDOM, "KEY", _random),
    Recogniser(MAIL, "EMAIL"),
    Recogniser(NAME, "NAME", _person),
    Recogniser(IBAN, "IBAN", _account),
    Recogniser(ADDRESS, "IP", _machine),
)
"""What goes before first."""


def spans(text: str) -> Iterator[Span]:
    """All that the built-in rules find, piece by piece."""
    for start in range(0, max(1, len(text)), PIECE):
        for begin, end, kind in _found(text[start : start + PIECE + OVERLAP]):
            yield start + begin, start + end, kind


def _found(text: str) -> Iterator[Span]:
    for rule in RULES:
        for found in rule.pattern.finditer(text):
            if place := rule.place(found):
                yield *place, rule.kind
    left = CHECKS  # a text of nothing but figures would take minutes: what comes after so many goes unasked
    for found in DIGITS.finditer(text):
        if number := found["it"]:
            left -= 1
            if is_card(number):
                yield *found.span(), "CARD"
            elif left < 0 or is_phone(number):
                yield *found.span(), "PHONE"


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
    """An address of a machine; what has but two figures, such as "a::", is none that anybody means, and localhost, 0.0.0.0
    and net masks are everybody's."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    common = address.is_loopback or address.is_unspecified or text.startswith("255.")
    return sum(map(str.isalnum, text)) > 2 and not common


def is_phone(text: str) -> bool:
    """A number of a length that its country has, where it comes with its code; one that a country of REGIONS gives out, as
    they write it at home. Figures with neither a nought before nor a gap are just figures, and so is a
    long fraction."""
    if ")" not in text or text.startswith("(+"):
        text = text.lstrip("(")
    if re.search(r"\d{5}/\d{5}", text) or not (text[0] in "+(0" or re.search(r"\d[ ().\-/\u00a0]", text)):
        return False
    for region in (None,) if text[0] == "+" else REGIONS[text[0] in "(0"]:
        try:
            number = phonenumbers.parse(text, region)
            if phonenumbers.is_valid_number(number) or (region is None and phonenumbers.is_possible_number(number)):
                return True
        except phonenumbers.NumberParseException:
            continue
    return False
