"""Words around a number: units, which say what is counted, and words that make it another number or no number."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction


def listed(words: str) -> list[str]:
    """A vocabulary, as it is written down here."""
    return words.split()


_UNIT_NAMES = {
    spelling: unit
    for unit, spellings in {
        "mm": "mm millimeter millimeters millimetre millimetres 毫米",
        "cm": "cm cms centimeter centimeters centimetre centimetres 厘米",
        "m": "m meter meters metre metres 米",
        "km": "km kms kilometer kilometers kilometre kilometres 千米 公里",
        "inch": "in inch inches",
        "foot": "ft foot feet",
        "yard": "yd yds yard yards",
        "mile": "mi mile miles",
        "mg": "mg milligram milligrams 毫克",
        "g": "g gram grams 克",
        "kg": "kg kgs kilogram kilograms 千克 公斤",
        "pound": "lb lbs",
        "ounce": "oz ounce ounces",
        "liter": "l liter liters litre litres 升",
        "ml": "ml milliliter milliliters millilitre millilitres 毫升",
        "second": "s sec secs second seconds 秒 秒钟",
        "minute": "min mins minute minutes 分钟",
        "hour": "h hr hrs hour hours 小时",
        "day": "day days 天",
        "week": "week weeks wk wks 周",
        "month": "month months 个月",
        "year": "year years yr yrs 年",
        "cent": "cent cents",
        "dollar": "dollar dollars usd",
        "euro": "euro euros eur",
        "yuan": "yuan rmb cny 元",
        "rupee": "rupee rupees rs inr",
        "am": "am a.m",
        "pm": "pm p.m",
    }.items()
    for spelling in spellings.split()
}
"""Units that are compared where both answers have one. `pound` may be money or weight."""

_SYMBOLS = frozenset(
    listed(
        "mm cm dm km nm um µm ft yd yds mi mg kg lb lbs oz ml mL cl dl kL sec secs min mins hr hrs kWh kW MW kJ MJ kN "
        "Pa kPa MPa hPa Hz kHz MHz GHz kV mV mA mol mmol cal kcal bar atm eV keV MeV rad mph kph fps psi rpm ppm sq "
        "cu ha amu dB erg dyn gal qt yr yrs wk wks mo USD EUR GBP CNY RMB INR JPY AUD CAD Rs cts pts cms kms kgs "
        "units unit"
    )
)
_SYMBOL = (
    r"(?:[kMGTcmμµnpf]?(?:m|g|s|eV|Hz|J|W|Pa|N|V|A|K|L|T|C|F|mol|cal|bar|pc)|min|hr?|rad|deg|atm|AU|ly|yr"
    r"|erg|dyn|ft|in|lb|oz|mi|yd|mph|l|Å)"
)
_POWER = r"(?:\^(?:[0-9]|\{-?[0-9]\}))?"
_ANY_SYMBOL = rf"(?:{_SYMBOL}|⟨[A-Za-z]+⟩){_POWER}"
_BETWEEN = r"(?: ?(?:/|\*|\\cdot) ?| )"
SYMBOLS_AT_END = re.compile(
    rf"(?:(?<=[0-9])| )(?P<unit>{_SYMBOL}|⟨[A-Za-z]+⟩){_POWER}"
    rf"(?:{_BETWEEN}(?:{_ANY_SYMBOL}|\( ?{_ANY_SYMBOL}(?:{_BETWEEN}{_ANY_SYMBOL}){{0,3}} ?\))){{0,5}}$"
)
r"""One letter after a number may be a unit or a variable: 5800 K, 24m, 3 m/s, 5 N m."""

_NUMERALS = {
    word: value
    for value, word in enumerate(
        listed(
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
            "seventeen eighteen nineteen"
        )
    )
} | {word: 10 * tens for tens, word in enumerate(listed("twenty thirty forty fifty sixty seventy eighty ninety"), 2)}
_MULTIPLIERS = {
    "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "quadrillion": 10**15,
    "dozen": 12, "lakh": 10**5, "crore": 10**7,
    "百": 10**2, "千": 10**3, "万": 10**4, "十万": 10**5, "百万": 10**6, "千万": 10**7, "亿": 10**8, "万亿": 10**12,
}  # fmt: skip
_PLURAL = re.compile(r"s$")
_FRACTION_WORD = re.compile(
    "(?:hundred|thousand|million|billion|trillion)ths?"
    # Other languages' multipliers, which are not read.
    r"|mil|mille|tausend|hundert|ciento?s?|mill(?:ion|ón|iard)\w*|millones|bill(?:ion|ón)\w+|тыс\w*|миллион\w*|млн|млрд"
)
_CHINESE_MULTIPLIER = re.compile("^(?:万亿|千万|百万|十万|[百千](?![米克瓦卡赫帕焦伏分])|[万亿])")

_PERCENT = frozenset({"percent", "pct", "percentage", "per cent"})
_DENOMINATORS = {
    "half": 2, "halves": 2, "third": 3, "thirds": 3, "quarter": 4, "quarters": 4, "fourth": 4, "fourths": 4, "fifth": 5,
    "fifths": 5, "sixth": 6, "sixths": 6, "seventh": 7, "sevenths": 7, "eighth": 8, "eighths": 8, "ninth": 9,
    "ninths": 9, "tenth": 10, "tenths": 10, "hundredth": 100, "hundredths": 100, "thousandth": 1000,
    "thousandths": 1000,
}  # fmt: skip
_CHANGING = frozenset(
    listed(
        "plus minus times multiplied divided over by squared cubed square-root factorial choose mod modulo power root "
        "to through thru until till and or but not no nor non never isn't wasn't wrong incorrect false if unless than "
        "least most between above below under exceeds exceed exceeding up down except without double twice triple "
        "thrice remainder negative positive infinity base isnt cannot can't neither either less-than greater minimum "
        "maximum from vs versus ratio unknown undefined undetermined impossible maybe perhaps possibly x"
    )
)
"""Words that make what stands beside them another number, a bound, or a guess."""
_CHANGING_CHINESE = re.compile(
    "[或和与且不非多少至半分之点加减乘除负超过上下以内外未没无约打成第错]|以[上下内外]|[大小高低]于|不足"
)
MONTHS = frozenset(
    listed(
        "january february march april may june july august september october november december jan feb mar apr jun "
        "jul aug sep sept oct nov dec"
    )
)

_VOCABULARY = frozenset(
    listed("no yes or and not all none both true false any odd even pi am pm a.m p.m dne sq cu usd eur")
)
_WEAK = frozenset(listed("to by of in per if is at an it on up as he we be do so"))
_VOWELS = frozenset("aeiouyAEIOUYÀÁÂÄÅÈÉÊËÌÍÎÏÒÓÔÖÙÚÛÜàáâäåèéêëìíîïòóôöùúûü")
_ALPHABET = "abcdefghijklmnopqrstuvwxyz"
_ORDINAL = frozenset({"st", "nd", "rd", "th"})
CJK = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_CJK = re.compile(f"[{CJK}]")
_CYRILLIC = re.compile(r"[\u0400-\u04ff]{2}|[\u0400-\u04ff]$")


def is_symbol(word: str) -> bool:
    """Whether `word` is a unit's symbol of several letters: cm, kWh, USD."""
    return word.rstrip(".") in _SYMBOLS


def is_word(word: str) -> bool:
    """Whether a run of letters is a word or a unit's symbol, not a product of variables (abc, mgh, xy)."""
    bare = word.rstrip(".'")
    if (
        _CJK.search(word)
        or _CYRILLIC.search(word)
        or is_symbol(word)
        or bare.lower() in _VOCABULARY
        or bare.lower() in _ORDINAL
    ):
        return True
    if len(bare) < 3 or not _VOWELS.intersection(bare):
        return False
    if not (bare.islower() or bare.isupper() or (bare[0].isupper() and bare[1:].islower()) or not bare.isalpha()):
        return len(bare) > 4
    if bare.isupper() and set(bare) <= set("ABCDEFGHIJ") and sorted(set(bare)) == list(bare):  # several options: ABD
        return False
    return bare.lower() not in _ALPHABET


def may_be_attached(word: str) -> bool:
    """Whether `word` is one right behind a digit: 24cm, 12th, 4:15pm."""
    bare = word.rstrip(".").lower()
    return (
        is_symbol(word)
        or bare in _ORDINAL
        or bare in ("am", "pm", "a.m", "p.m", "and", "or")
        or bool(_CJK.search(word))
    )


def is_weak(word: str) -> bool:
    """Whether `word` is one within a phrase of words only: alone, `at` is a product."""
    return word.rstrip(".").lower() in _WEAK


@dataclass(frozen=True, slots=True)
class Phrase:
    """What the words after a number say of it."""

    factor: Fraction = Fraction(1)
    percent: bool = False
    unit: str | None = None
    """Only of `_UNIT_NAMES`: other units are not compared."""


def after_number(phrase: str) -> Phrase | None:
    """The words after a number, such as "apples", "million dollars", "sq cm"; None where they change what it says."""
    words = phrase.replace("/", " / ").split()
    factor, percent = Fraction(1), False
    if words and _CJK.search(words[0]) and (chinese := _CHINESE_MULTIPLIER.match(words[0])):
        factor = Fraction(_MULTIPLIERS[chinese[0]])
        words[0] = words[0][chinese.end() :]
    while words and (multiplier := _MULTIPLIERS.get(words[0].lower().rstrip("."))):
        factor *= multiplier
        words = words[1:]
    if len(words) == 1 and words[0].lower() in _DENOMINATORS:  # 7 tenths
        return Phrase(factor / _DENOMINATORS[words[0].lower()])
    if words and (words[0].lower() in _PERCENT or [word.lower() for word in words[:2]] == ["per", "cent"]):
        percent = True
        words = words[1:] if words[0].lower() in _PERCENT else words[2:]
    if any(_changes(word) for word in words) and words != ["times"]:  # how often: 3 times
        return None
    return Phrase(factor, percent, _known_unit(words))


def before_number(phrase: str) -> tuple[int, str | None] | None:
    """The sign and the unit (of money) in the words before a number; None where they make it another number."""
    words = phrase.split()
    if len(words) == 1 and words[0].lower() in ("negative", "minus", "负"):
        return -1, None
    if words and words[-1].lower() in ("negative", "minus"):
        return (-1, None) if before_number(" ".join(words[:-1])) else None
    lowered = [word.lower().strip(".,:;") for word in words]
    if any(word in MONTHS or word in _MULTIPLIERS or word in _DENOMINATORS for word in lowered):
        return None
    if any(_changes(word) for word in words if word.lower() not in ("about", "approximately", "约")):
        return None
    return 1, _known_unit(words)


def numeral(phrase: str) -> Fraction | None:
    """The number that words say, or None: "seven", "twenty-four", "three hundred and five", "two thirds", "half"."""
    lowered = phrase.lower()
    if lowered.endswith(" and a half"):
        whole = numeral(lowered.removesuffix(" and a half"))
        return None if whole is None else whole + Fraction(1, 2)
    words = [word for word in lowered.replace("-", " ").split() if word not in ("a", "an")]
    if not words:
        return None
    if words[-1] in _DENOMINATORS:
        top = numeral(" ".join(words[:-1])) if len(words) > 1 else Fraction(1)
        return None if top is None or top.denominator != 1 else top / _DENOMINATORS[words[-1]]
    total, current, seen = 0, 0, False
    for word in words:
        if word == "and" and seen:
            continue
        if word in _NUMERALS:
            value = _NUMERALS[word]
            if current % 100 and not (current % 100 >= 20 and current % 10 == 0 and value < 10):
                return None
            current += value
        elif word == "hundred" and current < 100:
            current = (current or 1) * 100
        elif word in ("dozen", "thousand", "million", "billion", "trillion"):
            total += (current or 1) * _MULTIPLIERS[word]
            current = 0
        else:
            return None
        seen = True
    return Fraction(total + current)


def unit_at_end(symbol: str) -> str | None:
    return _UNIT_NAMES.get(symbol.strip("⟨⟩"))


def _changes(word: str) -> bool:
    lowered = word.lower().strip(".,:;!()")
    if _FRACTION_WORD.fullmatch(lowered):
        return True
    if _CJK.search(word):
        return _CHANGING_CHINESE.search(word) is not None and word not in _UNIT_NAMES
    return (
        lowered in _CHANGING
        or lowered in MONTHS
        or lowered in _NUMERALS
        or lowered in _MULTIPLIERS
        or lowered in _DENOMINATORS
        or _PLURAL.sub("", lowered) in _MULTIPLIERS
    )


def _known_unit(words: list[str]) -> str | None:
    names = [
        word for word in words if word.lower() not in ("square", "sq", "sq.", "cubic", "cu", "cu.", "平方", "立方")
    ]
    if len(names) != 1:
        return None
    name = names[0].lower().strip(".,()").removeprefix("平方").removeprefix("立方")
    return _UNIT_NAMES.get(name)
