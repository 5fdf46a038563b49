"""`python -m facebatch`, for machines where the console script is not on PATH."""

from facebatch.cli import entry

if __name__ == "__main__":
    entry()
