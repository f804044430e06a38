"""The Face Dictionary: its concepts, formats, reading and checking; photographs and face boxes; making one."""
