"""``python -m qvae`` is the command line."""

from qvae.cli.main import main

main()
