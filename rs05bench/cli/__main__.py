"""`python -m rs05bench.cli`."""

from rs05bench.cli import main

main()
