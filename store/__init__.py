"""What was made from what: stages and their provenance, the files of a layer, the memory map, the network of a run."""
