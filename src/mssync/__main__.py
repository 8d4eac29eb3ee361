"""`python -m mssync`: the command line."""

from mssync.cli import main

if __name__ == "__main__":
    main()
