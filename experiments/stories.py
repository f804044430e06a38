"""What a study of trained networks leaves: a table, a plot, a page, and the settings, written when they changed."""

import sys

import numpy as np

from report.experiment import write_story
from report.tables import write_csv
from store.layer import Stage
from util.configuration import snapshot
from util.files import fingerprint, replace_text

# What its reports are made from: everything that was found.
RESULT = ("found", "story")

# Those of every study. make: function of path, report.experiment.Story and whatever else was found.
STORY_REPORTS = (
    Stage("_table.csv", "table", RESULT, make=lambda path, story, *_: write_csv(path, story.rows)),
    Stage("_curves.png", "plot", RESULT, make=lambda path, story, *_: story.save_plot(path)),
    Stage("_story.pdf", "report", RESULT, make=lambda path, story, *_: write_story(path, story)),
)


def leave(config, results, reports, story, *found):
    """Write the reports and say what was found and where it lies. results: LayerStore. reports: Stages."""
    with np.printoptions(threshold=sys.maxsize):  # or long arrays would be abbreviated
        results.facts |= {"found": fingerprint([repr(one) for one in found]), "story": fingerprint(repr(story))}
    for stage in reports:
        if not results.is_current(stage):
            results.make(stage, stage.make, story, *found)
    replace_text(results.path("_settings.json"), snapshot(config))
    print("\n" + "\n  ".join(story.lines()) + "\n")
    for stage in reports:
        print(f"  {stage.what:<10} {results.path(stage.suffix)}")
