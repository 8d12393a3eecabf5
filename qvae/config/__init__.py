"""The configuration of a run: its schema, how it is read and written, and what is said of faults in it."""
