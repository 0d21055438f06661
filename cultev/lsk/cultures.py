"""Which language a culture's people speak most, for the baseline that asks every question in its culture's language."""

from __future__ import annotations

from cultev.suite.store import Suite

LANGUAGE_OF = {
    "argentina": "es", "armenia": "hy", "australia": "en", "austria": "de", "bangladesh": "bn", "bolivia": "es",
    "brazil": "pt", "bulgaria": "bg", "canada": "en", "chile": "es", "china": "zh", "colombia": "es", "cuba": "es",
    "democratic republic of the congo": "fr", "ecuador": "es", "egypt": "ar", "england": "en", "ethiopia": "am",
    "finland": "fi", "france": "fr", "georgia": "ka", "germany": "de", "ghana": "en", "greece": "el", "haiti": "ht",
    "india": "hi", "indonesia": "id", "iran": "fa", "iraq": "ar", "israel": "he", "italy": "it", "japan": "ja",
    "kazakhstan": "kk", "kenya": "sw", "madagascar": "mg", "malaysia": "ms", "mexico": "es", "mongolia": "mn",
    "morocco": "ar", "myanmar": "my", "nepal": "ne", "netherlands": "nl", "new zealand": "en", "nigeria": "en",
    "norway": "no", "pakistan": "ur", "peru": "es", "philippines": "tl", "poland": "pl", "portugal": "pt",
    "russia": "ru", "rwanda": "rw", "samoa": "sm", "saudi arabia": "ar", "senegal": "wo", "south africa": "en",
    "south korea": "ko", "korea": "ko", "spain": "es", "sri lanka": "si", "sweden": "sv", "taiwan": "zh",
    "tanzania": "sw", "thailand": "th", "tonga": "to", "turkey": "tr", "türkiye": "tr", "uganda": "en",
    "ukraine": "uk", "united kingdom": "en", "united states": "en", "uzbekistan": "uz", "vietnam": "vi",
    "zimbabwe": "sn",
    # Peoples whose language is not their country's.
    "akan": "ak", "bengali": "bn", "bengali-bangladesh": "bn", "igbo": "ig", "javanese": "jv", "maori": "mi",
    "navajo": "nv", "persian": "fa", "quechua": "qu", "sami": "se", "shona": "sn", "swahili-coast": "sw",
    "wolof": "wo", "yoruba": "yo", "zulu": "zu",
}  # fmt: skip
"""Country or people, in English and small letters -> the language most of them use among each other (CLDR's territory
information; in India and where English is the common tongue a rough word, as the published baseline's map is)."""


def culture_languages(suite: Suite) -> dict[str, str]:
    """Culture -> language code, for the cultures whose country, name or id is listed."""
    found = {}
    for culture in suite.cultures.values():
        for word in (culture.id, culture.name("en"), culture.countries.get("en", "")):
            code = LANGUAGE_OF.get(word.lower())
            if code:
                found[culture.id] = code
                break
    return found
