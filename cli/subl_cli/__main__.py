"""`python -m subl_cli`: how launchers that start modules start ranks."""

from subl_cli.main import entry

if __name__ == "__main__":
    entry()
