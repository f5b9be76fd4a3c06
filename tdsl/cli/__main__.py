"""`python -m tdsl.cli` is `tdsl`."""

from tdsl.cli import main

main()
