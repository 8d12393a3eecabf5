"""The backends that ship with qvae: one file each, found by their entry points alone."""
