"""What the stages share: settings, artifacts, parallel reading, the mathematics of segmentation, reports."""
