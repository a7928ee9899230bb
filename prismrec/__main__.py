"""``python -m prismrec``."""

from prismrec.cli.app import main

main()
