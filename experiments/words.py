"""The settings of a study: settings.py, those of the study alone, and the words of its command line."""

import settings
from util.configuration import read_settings


def read_words(words, description, instead, own=None):
    """The settings of one run of a study, see util.configuration.read_settings. own: its settings module, or None."""
    return read_settings(settings, words, description, instead, own)
