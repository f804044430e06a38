"""Everything that is read in: photographs and masks, face boxes, models and their checkpoints."""
