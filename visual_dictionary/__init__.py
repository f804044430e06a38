"""The Face Dictionary: its concepts, its reader and checker, and the program that builds one."""
