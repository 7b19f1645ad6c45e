"""`python -m dayspring` is the `dayspring` command."""

from dayspring.cli.main import main

if __name__ == "__main__":
    main()
