"""The settings of a study: settings.py, those of the study alone, and the words of its command line."""

import settings
from util.configuration import read_settings
from util.errors import DissectionError


def read_words(words, description, instead, own=None):
    """The settings of one run of a study, see util.configuration.read_settings. own: its settings module, or None."""
    return read_settings(settings, words, description, instead, own)


def require_chance(config, dealt=True):
    """Raise DissectionError for settings that tell nothing from chance. dealt: whether PERMUTATIONS matters to it."""
    if config.ALPHA is None or (dealt and not config.PERMUTATIONS):
        raise DissectionError("this study tells findings from chance: ALPHA and PERMUTATIONS must not be None or 0")
