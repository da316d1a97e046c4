"""`python -m tsq_cli` is `tsq`."""

from tsq_cli.cli.app import main

main()
