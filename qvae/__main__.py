"""``python -m qvae`` is the command line."""

from qvae.cli import main

main()
