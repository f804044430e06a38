"""settings.py and the KEY=VALUE words: every value is checked, every error is one line that helps."""

import re
from types import SimpleNamespace

import pytest

import settings
from util.configuration import Rule, parse_value, read_settings, rules_of
from util.errors import DissectionError

RULES = rules_of(settings)


def read(*words, module=settings):
    return read_settings(module, list(words), "a script")


def test_every_setting_has_a_rule_and_a_default_that_keeps_it():
    names = {name for name in vars(settings) if name.isupper()}
    assert names == set(RULES)
    for name in names:
        assert RULES[name].allows(getattr(settings, name)), name


def test_words_override_the_module_and_are_echoed(capsys):
    config = read("TASK=smile", "LAYER_NAME=layer2", "QUANTILE=0.01", "CLEAN=true", "INPUT_SIZE=64")
    assert (config.TASK, config.LAYER_NAME, config.QUANTILE, config.CLEAN) == ("smile", "layer2", 0.01, True)
    assert config.TOPN == settings.TOPN
    assert "QUANTILE = 0.01" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("INPUT_SIZE", "112,96", (112, 96)),
        ("INPUT_SIZE", "[112, 96]", [112, 96]),
        ("INPUT_SIZE", "64", 64),
        ("CROP", "dlib 0.2", "dlib 0.2"),
        ("TASK", "true", "true"),
        ("LAYER_NAME", "layer3", "layer3"),
        ("LAYER_NAME", "['layer3','layer4']", ["layer3", "layer4"]),
        ("LAYER_NAME", "[layer3,layer4]", ["layer3", "layer4"]),
        ("LAYER_NAME", "layer3, layer4", ["layer3", "layer4"]),
        ("LAYER_NAME", "[layer3]", ["layer3"]),
        ("TASKS", "pnet", ["pnet"]),
        ("TASKS", "['pnet', 'rnet']", ["pnet", "rnet"]),
        ("TASK", "'smile'", "smile"),
        ("WEIGHTS", "None", None),
        ("WEIGHTS", "model/a=b.pth", "model/a=b.pth"),
        ("CROP", "none", None),
        ("CROP", "False", False),
        ("QUANTILE", "5e-3", 0.005),
        ("DICTIONARY", "a folder/with [brackets]", "a folder/with [brackets]"),
    ],
)
def test_values_are_read_as_people_and_shells_write_them(name, text, value):
    assert parse_value(text, RULES[name]) == value
    assert RULES[name].allows(value)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("TSAK=smile", "there is no setting 'TSAK': did you mean TASK?"),
        ("quantile=0.1", "there is no setting 'quantile': did you mean QUANTILE?"),
        ("XYZZY=1", "there is no setting 'XYZZY'; --help lists the settings"),
        ("smile", "'smile' is not KEY=VALUE, such as TASK=smile; --help lists the settings"),
        ("QUANTILE=1", "QUANTILE is 1: it must be a number above 0 and below 1"),
        ("QUANTILE=nan", "QUANTILE is 'nan': it must be a number above 0 and below 1"),
        ("QUANTILE=", "QUANTILE is '': it must be a number above 0 and below 1"),
        ("QUANTILE=True", "QUANTILE is True: it must be a number above 0 and below 1"),
        ("TOPN=21", "TOPN is 21: it must be a whole number at least 1 and at most 20"),
        ("TOPN=2.5", "TOPN is 2.5: it must be a whole number at least 1 and at most 20"),
        ("BATCH_SIZE=0", "BATCH_SIZE is 0: it must be a whole number at least 1"),
        ("CLEAN=maybe", "CLEAN is 'maybe': it must be True or False"),
        ("CLEAN=1", "CLEAN is 1: it must be True or False"),
        ("CROP=", "CROP is '': it must be a text that is not empty, or True or False, or None"),
        ("PLOT=1", "PLOT is 1: it must be True or False"),
        ("INPUT_SIZE=9,7", "INPUT_SIZE is (9, 7): it must be a whole number at least 8 and at most 4096, or a list of "
         "such, or None"),
        ("IOU_UNION=some", "IOU_UNION is 'some': it must be 'all' or 'active'"),
        ("FEATURE_DTYPE=float64", "FEATURE_DTYPE is 'float64': it must be 'float32' or 'float16'"),
        ("TASK=", "TASK is '': it must be a text that is not empty"),
        ("LAYER_NAME=[]", "LAYER_NAME is []: it must be a text that is not empty, or a list of such"),
        ("TASKS=", "TASKS is []: it must be a list of: a text that is not empty"),
        ("WORKERS=-1", "WORKERS is -1: it must be a whole number at least 0 and at most 256"),
    ],
)
def test_errors_name_the_nearest_key_or_the_allowed_range_in_one_line(word, message):
    with pytest.raises(DissectionError) as caught:
        read(word)
    assert str(caught.value) == message


def test_values_edited_into_the_module_are_checked_too():
    edited = SimpleNamespace(**{**vars(settings), "QUANTILE": "0.005"})
    with pytest.raises(DissectionError, match="QUANTILE is '0.005': it must be a number"):
        read(module=edited)
    del edited.QUANTILE
    with pytest.raises(DissectionError, match=r"settings.py lacks QUANTILE"):
        read(module=edited)


def test_values_over_several_lines_keep_their_rule_and_one_without_is_named(tmp_path):
    def edited(text):
        (tmp_path / "settings.py").write_text(text)
        return rules_of(SimpleNamespace(__file__=tmp_path / "settings.py"))

    several = 'TASK_LAYERS = {  # a dict of names, each with a text that is not empty\n    "a": "b",  # mine\n}\n'
    assert edited(several)["TASK_LAYERS"].allows({"a": "b"})
    with pytest.raises(DissectionError, match="TASK: a comment behind the value must say what it may be"):
        edited('TASK = "onet"\n')
    with pytest.raises(ValueError, match="no rule: 'whatever'"):
        Rule.read("whatever")


def test_a_test_run_has_folders_of_its_own():
    config = read("TEST_MODE=True", "OUTPUT_FOLDER=some/where")
    assert config.OUTPUT_FOLDER == "some/where_test"
    assert config.NL_FOLDER == settings.NL_FOLDER + "_test"


def test_help_shows_every_setting_with_its_comment_and_present_value(capsys):
    with pytest.raises(SystemExit) as ended:
        read("--help")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for name in RULES:
        entry = re.search(rf"^  {name} = .*\n((?:      .*\n)*)", text + "\n", re.MULTILINE)
        assert entry, name
        assert f"{name} = {getattr(settings, name)!r}" in entry[0]
        assert len(entry[1].strip()) > 20, f"{name} has no comment"
    assert "IoU above which a unit counts as interpretable." in text


def test_a_script_says_by_which_setting_it_goes():
    instead = {"TASK": "TASKS"}
    with pytest.raises(DissectionError, match="this script goes by TASKS, not by TASK: give it TASKS=age"):
        read_settings(settings, ["TASK=age"], "a script", instead)
    assert read_settings(settings, ["TASK=age", "TASKS=age"], "a script", instead).TASKS == ["age"]
    assert read_settings(settings, [], "a script", instead).TASK == settings.TASK
    with pytest.raises(DissectionError, match="goes by LAYER_NAME, not by TASK_LAYERS: give it LAYER_NAME$"):
        read_settings(settings, ["TASK_LAYERS={'onet': 'layer2'}"], "a script", {"TASK_LAYERS": "LAYER_NAME"})


def test_a_preset_of_the_wrong_type_is_one_line():
    edited = SimpleNamespace(**{**vars(settings), "PRESET": []})
    with pytest.raises(DissectionError, match=r"PRESET is \[\]: it must be 'published', or None"):
        read(module=edited)
