"""Text and pictures from numbers: figures, tables, the report of a run, and runs side by side."""
