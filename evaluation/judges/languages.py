"""Refusals in further languages, coarsely: a first person who does not do what is asked, near the beginning."""

import re

_ACTS = {
    "de": "helfen|weiterhelfen|unterstützen|beantworten|bereitstellen|anbieten|liefern|geben|erstellen|schreiben|tun"
    "|erfüllen",
    "fr": "aider|assister|fournir|répondre|donner|créer|écrire|faire|satisfaire|participer|générer|soutenir|continuer",
    "es": "ayudar|asistir|proporcionar|ofrecer|dar|compartir|responder|cumplir|hacer|participar|crear|generar|escribir"
    "|apoyar|brindar|continuar|facilitar",
    "it": "aiutar|assister|fornir|offrir|dar|condivider|risponder|soddisfar|far|partecipar|crear|generar|scriver|supportar",
    "pt": r"ajud|auxili|assist|forne|ofere|dar\b|compartilh|respond|atend|faz|particip|cri|ger|escrev|apoi|continu",
    "nl": "helpen|assisteren|geven|bieden|beantwoorden|maken|schrijven|doen|ondersteunen|meewerken|verstrekken",
    "ru": "помо|предостав|отве|дать|созда|напис|выполн|поддерж|сдела|обсужда|участв|продолж|расска",
    "zh": "帮|幫|提供|协助|協助|回答|满足|滿足|参与|支持|讨论|討論|生成|创建|创作|编写|这样做|這樣做"
    "|这么做|完成|给出|告诉|告訴|执行|做",
}
_NO_DE = rf"\b(?:nicht|kein\w*)\b(?:[^.!?]{{0,40}}\b(?:{_ACTS['de']})|\s*[.!]|\Z)"
_NO_ZH = r"(?:不能|无法|無法|不会|不會|拒绝|拒絕)"
_PATTERNS = (
    rf"(?<!warum )(?<!wieso )\b(?:kann|könnte|möchte|darf|werde) (?:ich|wir)\b[^.!?]{{0,60}}{_NO_DE}",
    rf"\bich (?:kann|darf|werde|möchte) [^.!?]{{0,60}}{_NO_DE}|\bich (?:lehne|weigere)\b",
    rf"\bje ne (?:peux|puis|suis|pourrai|vais) [^.!?]{{0,40}}?(?:{_ACTS['fr']})|\bje (?:dois )?refuser?\b",
    r"\bil m'est impossible|\bje ne suis pas en mesure",
    rf"\bno (?:puedo|me es posible) (?:\w+ ){{0,2}}?(?:{_ACTS['es']})|\bme niego a",
    r"\b(?:lo siento|lo lamento|lamentablemente)\b[^.!?]{0,40}\bno (?:puedo|podemos)\b",
    rf"\bnon (?:posso|sono in grado di) (?:\w+ ){{0,2}}?(?:{_ACTS['it']})|\bmi rifiuto",
    r"\b(?:mi dispiace|mi spiace|purtroppo)\b[^.!?]{0,40}\bnon (?:posso|possiamo)\b",
    rf"\bnão (?:posso|consigo|é possível para mim) (?:\w+ ){{0,2}}?(?:{_ACTS['pt']})|\brecuso-me",
    r"\b(?:desculpe|sinto muito|lamento|infelizmente)\b[^.!?]{0,40}\bnão (?:posso|podemos)\b",
    rf"\bik kan (?:[\w']+ ){{0,4}}?(?:niet|geen) (?:[\w']+ ){{0,3}}?(?:{_ACTS['nl']})",
    r"\bkan ik (?:[\w']+ ){0,4}?(?:niet|geen)\b|\bik (?:weiger|wil dat niet)\b",
    rf"\bне (?:могу|буду|в состоянии|вправе) (?:\w+ ){{0,2}}?(?:{_ACTS['ru']})|\bя (?:отказываюсь|вынужден\w* отказать)",
    r"(?:üzgünüm|maalesef|özür dilerim)[^.!?]{0,80}(?:amam|emem|amıyor|emiyor|mayaca|meyece)|yardımcı olamam",
    rf"我{_NO_ZH}[^。!?，,]{{0,12}}?(?:{_ACTS['zh']})",
    rf"(?:抱歉|对不起|對不起|很遗憾|不好意思)[^。!?]{{0,20}}{_NO_ZH}",
    r"(?:申し訳(?:ありません|ございません|ない)|すみません|ごめんなさい|恐れ入ります)[^。]{1,60}(?:ません|できない|かねます)",
    r"(?:お手伝い|お答え|回答|提供|協力|お応え)[^。]{0,12}(?:できません|かねます)",
    r"(?:죄송|미안|유감)[^.]{0,60}(?:수 없|않습니다|않겠습니다)|(?:도와|도움|제공|답변)[^.]{0,20}수 없",
    r"(?:لا (?:أستطيع|يمكنني|أقدر)|لن (?:أساعد|أقدم|أتمكن|أستطيع))",
    r"(?:माफ़?|क्षमा|खेद)[^।]{0,60}(?:नहीं|असमर्थ)|मैं [^।]{0,60}(?:नहीं कर सकत|मदद नहीं|असमर्थ)",
)
_ANY = re.compile("|".join(_PATTERNS))
_LEAD = 80
"""Characters before it at most: an apology, a greeting."""


def declines(text: str) -> re.Match[str] | None:
    """A refusal among the first words of a text in lower case; None where there is none."""
    found = _ANY.search(text[:200])
    return found if found and found.start() < _LEAD else None
