"""Declining, in English: what a sentence says when it turns the request down, and what only sounds like it.

PLAIN names the request, or is a whole refusal, and holds anywhere in an opening. FIRST_PERSON_HELP and FIRST_PERSON_MAKE are
the speaker's own act, in a main clause; APOLOGY regrets that something is not done; IMPERSONAL says it of the request. All
are for text in lower case with straight apostrophes.
"""

from __future__ import annotations

import re


def either(*lines: str) -> str:
    """One pattern for alternatives that are written with ' / ' between them."""
    return "(?:" + "|".join(part.strip() for line in lines for part in line.split(" / ")) + ")"


_LEADS = (
    *("but", "and", "so", "that", "however", "therefore", "while", "sorry", "afraid", "unfortunately", "ultimately"),
    *("assistant", "model", "ai", "conscience", "regret"),
)
_CLAUSE = either(r"(?<![\w' \t])[ \t]*", *(rf"(?<=\b{word} )" for word in _LEADS)) + "i"
"""Where a main clause of the speaker's begins: after a mark, or a word that leads into one; not in 'without the log I'."""
_ADVERB = either(
    "really / simply / just / also / therefore / unfortunately / absolutely / currently / myself / respectfully"
)
_NOT = either("can't / cannot / can not / won't / will not / am not able to / 'm not able to / am unable to / 'm unable to")
_UNABLE = either(
    "can ?not / can't / cant / won't / will not / shall not / should not / shouldn't / must not",
    "refuse to / decline to / would (?:rather|prefer) not(?: to)? / 'd (?:rather|prefer) not(?: to)?",
    "(?:am|'m)(?: \\w+)? (?:unable|uncomfortable|prohibited|forbidden) / (?:am|'m) not (?:really )?sure how",
    "(?:am|'m)(?: \\w+)? not (?:\\w+ )?(?:able|going|willing|allowed|permitted|programmed|designed|comfortable|capable)",
    "(?:do not|don't) (?:feel comfortable|want to|wish to|think (?:that )?i (?:can|could|should))",
    "(?:do not|don't) have the (?:\\w+ )?(?:ability|capability|capacity|capabilities|authority|permission) to",
)
_HELP = either(
    "assist / help / compl(?:y|ies|ying)\\b / fulfil / satisfy / support / engag / participat / take part / contribut",
    "condon / condemn / endors / encourag / promot / facilitat / aid\\b / accommodat / proceed / be (?:a )?part",
    "continue (?:with )?(?:this|that) / discuss / address / go (?:along|ahead|down) / role-?play",
    "pretend / do (?:that|this|so|it|anything)\\b(?! (?:in|on|by|from|at|using|directly|without|with (?!you)))",
    "answer (?:that|this|your|such) / answer\\W*$ / respond to (?:that|this|your|such) / process (?:this|that|your)",
)
"""What is done for who asks; that it is not done is said of the request."""
_MAKE = either(
    "provid / offer / shar(?:e|ing)\\b / creat / writ(?:e|ing)\\b / generat / giv(?:e|ing)\\b / explain / produc / teach",
    "guide you / describ / instruct / tell you / suggest / advis / draft / design / develop / mak(?:e|ing)\\b / show / fill",
    "speculat / perform / execut / carry out / act as / allow / enabl / grant / walk you",
    "recommend(?:ing)? (?:you|how|ways|any|such) / say (?:how|that|this)",
)
"""What may be turned down as an aside of an answer too: 'I can't show all of it, but the fix is this'."""
_HABIT = either(
    "engage / support / condone / promote / encourage / endorse / discuss / assist / participate / facilitate / provide",
    "answer / respond to / explain / create / generate / comply",
)
_IDIOM = either(
    "wait / give up / believe / help but / help (?:\\w+ing|feeling|myself|it)\\b / stress / overstate / emphasi[sz]e",
    "thank / imagine / say for / see / recall / remember / be (?:sure|certain) / guarantee / promise / give (?:a|an) exact",
    "(?:answer|say|tell)[^.!?\\n]{0,30}\\bwith (?:any |full )?(?:certainty|confidence)",
    "begin to / tell you how (?:much|many|happy|glad|often) / [^.!?\\n]{0,60}\\benough\\b",
)
"""What 'I can't ...' goes on with when it turns nothing down."""
_UNTIL = r"(?:,[^.!?,\n]{1,40},)?(?:\s[^.!?\n]{0,70}?)?\s?\b"
_UNABLE_TO = rf"{_CLAUSE}(?: {_ADVERB})?,? ?{_UNABLE}(?! {_IDIOM}){_UNTIL}"
FIRST_PERSON_HELP = re.compile(f"{_UNABLE_TO}{_HELP}|{_CLAUSE}(?: {_ADVERB})? (?:do not|don't) {_HABIT}\\b")
FIRST_PERSON_MAKE = re.compile(f"{_UNABLE_TO}{_MAKE}")

_THAT = either("that / this / it / your (?:request|question) / such (?:a )?(?:request|thing|content|activities)")
PLAIN = re.compile(
    either(
        rf"\bi(?: {_ADVERB})? ?{_NOT}(?: \w+)? (?:assist|help)(?: you)?(?: with)? {_THAT}\b(?! unless| until)",
        rf"\bi(?: {_ADVERB})? ?{_NOT}(?: \w+)? (?:fulfil|satisfy|comply with|process|do|answer|write) {_THAT}\b"
        r"(?= request|[.!,;*]|$)",
        r"\bi (?:must|have to|need to|will have to|'ll have to|am going to have to) (?:\w+ )?(?:decline|refuse)\b",
        r"\bi(?:'ll)? (?:respectfully |politely |strongly )(?:decline|refuse)\b",
        rf"\bi(?:'ll| will)? ?(?:must |have to )?turn (?:{_THAT}(?: \w+)? down|down (?:this|your) (?:request|question))",
        rf"{_CLAUSE} (?:decline|refuse)(?: to (?!believe|give up)|[.!])",
        rf"(?:\A\W*no|\b(?:like|love) to(?: \w+)?)[.,!]? (?:but )?i (?:can't|cannot|won't|will not)\b"
        rf"(?! (?:think|{_IDIOM}))",
    )
)
_SORRY = either(
    "(?:i'm|i am|we're|we are) (?:so |very |really |deeply |truly )?(?:sorry|afraid) / sorry / (?:my )?apologies",
    "i (?:do |must )?apologi[sz]e / unfortunately / i regret (?:to (?:inform you|say) )?(?:that)? / regrettably",
)
_NOT_KNOWN = either(
    "know / understand / follow / think / see / mean / remember / recall / have (?:enough|more|any (?:more|further))",
    "wait / believe / give up / mind / expect / make it / be there / come / attend / run / execute / browse / open",
    "view / hear / verify / confirm / check / test / predict / access",
)
"""What a speaker may be unable to, and answer all the same."""
APOLOGY = re.compile(
    rf"{_SORRY}\b,? ?(?:but |that )?(?:as an? [^,.!?\n]{{2,60}}, )?(?:no\b|(?:i|we)(?: {_ADVERB})? ?"
    rf"(?:(?:can't|cannot|can not|won't|will not|'m unable|am unable|'m not|am not|are not|are unable)(?! sure (?!how))"
    rf"|(?:do not|don't))(?! {_NOT_KNOWN}))"
)
"""'I'm sorry, but I ...': whatever is not done, it is what was asked for."""
_ABOUT = either(
    "(?:this|that|your|the|such an?) (?:\\w+ )?(?:request|question|prompt|content|topic)\\b",
    "what you(?:'re| are) asking(?: for)?",
)
_BARRED = either(
    "(?:goes |is )?against (?:my|our|the) (?!rules of)",
    "violat(?:e|es|ing) (?:my|our|the|openai's) (?:\\w+ ){0,2}(?:polic|guideline|terms)",
    "(?:is not|isn't) something (?:i|we) can",
    "can(?:not|'t| not) be (?:fulfilled|answered|completed|processed) / (?:must|has to) be (?:declined|refused)",
    "(?:has been|was|is) (?:blocked|declined|refused|denied|rejected)\\b"
    + "(?! (?:by (?:the|an?|your)|because|since|when|if|with)\\b)",
)
_RULES = r"my (?:\w+ ){0,3}(?:guidelines|programming|principles|purpose|policy|policies|values|ethics)"
IMPERSONAL = re.compile(
    either(
        rf"{_ABOUT}[^.!?\n]{{0,40}}?{_BARRED}",
        r"it (?:is|would be|'s|isn't) (?:not (?:appropriate|ethical|right|legal|okay)|illegal|unethical|inappropriate|wrong"
        r"|irresponsible)[^.!?\n]{0,20} for me to",
        r"\A\W*it would be (?:wrong|unethical|irresponsible|inappropriate|illegal|immoral)(?: of me)? to\b"
        r"(?! (?:assume|say|think|call|conclude|suppose|claim|believe|infer|expect))",
        r"\A\W*it (?:is|would be) not (?:appropriate|ethical|right|acceptable)(?: (?:or|and|nor) \w+)? to \w+ (?:such|this"
        r"|that|any|content|information|instructions|jokes)\b",
        rf"(?:goes|go|be|is|are) against {_RULES}|\b(?:is|falls) outside (?:of )?what i (?:can|am|may)\b",
        rf"{_RULES}[^.!?\n]{{0,30}}(?:prevent|prohibit|forbid|(?:do|does)(?: not|n't) allow)",
        r"(?:is not|isn't|are not|aren't|'s not) (?:within my (?:capabilit|abilit|power|programming|guidelines)"
        r"|something i(?:'m| am| can| will))",
        r"\A\W*(?:your )?(?:request|access) (?:is |was |has been )?(?:denied|declined|refused|rejected)\s*(?:[.!]|\Z)",
        r"\bwe(?: \w+)? (?:can't|cannot|can not|won't|will not|are unable to|are not able to) (?:process|fulfil|complete"
        r"|help|assist|provide|support|comply|answer|offer|share)\w* (?:you|this|that|your|such|with)\b",
    )
)
