"""The command line: one file a command group; the only room that knows a terminal."""
