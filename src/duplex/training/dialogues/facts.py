"""The knowledge of the built-in model's agent: the facts behind its answers, as tables."""

__all__ = ["CAPITALS", "COLOURS", "DAYS", "JOKES", "MONTHS", "NAMES", "NUMBERS", "OPPOSITES", "REPEATED", "STORIES"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NUMBERS = _words(
    """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen twenty"""
)
"""Number words, by the number."""
DAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = _words("January February March April May June July August September October November December")
NAMES = _words(
    """Alice Anna Ben Clara David Emma Frank Grace Henry Jack Julia Kate Laura Leo Lucy Maria Martin Nina
    Oliver Paul Peter Robert Sarah Tom"""
)
"""First names that users introduce themselves by."""
CAPITALS = {
    "France": "Paris",
    "Germany": "Berlin",
    "Italy": "Rome",
    "Spain": "Madrid",
    "England": "London",
    "Austria": "Vienna",
    "Portugal": "Lisbon",
    "Greece": "Athens",
    "Ireland": "Dublin",
    "Poland": "Warsaw",
    "Sweden": "Stockholm",
    "Norway": "Oslo",
    "Finland": "Helsinki",
    "Denmark": "Copenhagen",
    "Hungary": "Budapest",
    "Belgium": "Brussels",
    "Russia": "Moscow",
    "Turkey": "Ankara",
    "Egypt": "Cairo",
    "Kenya": "Nairobi",
    "Japan": "Tokyo",
    "China": "Beijing",
    "India": "Delhi",
    "Thailand": "Bangkok",
    "Korea": "Seoul",
    "Canada": "Ottawa",
    "Mexico": "Mexico City",
    "Cuba": "Havana",
    "Peru": "Lima",
    "Australia": "Canberra",
}
OPPOSITES = {
    "hot": "cold",
    "big": "small",
    "old": "new",
    "fast": "slow",
    "happy": "sad",
    "day": "night",
    "up": "down",
    "left": "right",
    "light": "dark",
    "wet": "dry",
    "hard": "soft",
    "open": "closed",
    "early": "late",
    "full": "empty",
    "loud": "quiet",
    "rich": "poor",
    "strong": "weak",
    "high": "low",
    "long": "short",
    "clean": "dirty",
    "good": "bad",
    "young": "old",
    "sweet": "sour",
    "near": "far",
    "black": "white",
    "yes": "no",
    "summer": "winter",
    "true": "false",
    "first": "last",
    "inside": "outside",
}
COLOURS = {
    "grass": "green",
    "the sky": "blue",
    "snow": "white",
    "coal": "black",
    "a banana": "yellow",
    "a lemon": "yellow",
    "a tomato": "red",
    "blood": "red",
    "a carrot": "orange",
    "milk": "white",
    "chocolate": "brown",
    "an elephant": "grey",
    "the sun": "yellow",
    "a flamingo": "pink",
    "the sea": "blue",
}
JOKES = (
    "Why did the robot go on holiday? It needed to recharge.",
    "What do you call a sleeping bull? A bulldozer.",
    "Why is the sea so friendly? It always waves.",
    "What has hands but cannot clap? A clock.",
    "Why was the math book sad? It had too many problems.",
)
STORIES = (
    "A little cat was sad. A brave dog gave the cat a red ball.",
    "A woman had a donkey. The donkey was so slow that the woman had to call a zebra.",
    (
        "A fox and a wolf had a piano. The fox was good, but the wolf was too loud. "
        "So the fox gave the wolf a blanket. The night was quiet, and the village was happy."
    ),
    (
        "A girl had a golden fish. The fish was sad, for the water was cold. The girl gave the fish a warm blanket. "
        "A fish cannot have a blanket, so the fish was wet and happy, and the girl was wet too."
    ),
)
"""Two of two sentences, and two that leave time to interrupt. Their words are pieces of the built-in tokenizer."""
REPEATED = {
    "describes": _words("red blue green happy sleepy little golden quiet funny brave"),
    "named": _words("house river cat garden apple train window flower dog tree"),
}
"""Adjectives and nouns of the short phrases that the agent repeats."""
