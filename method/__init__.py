"""The mathematics of dissection, arrays in and arrays out: no files, no settings, no networks."""
