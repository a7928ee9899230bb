"""``python -m prismrec``."""

from prismrec.cli.app import program

program()
