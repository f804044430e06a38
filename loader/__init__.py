"""Networks: a file per task, checkpoints, the recorder, layouts, and one pass over images."""
