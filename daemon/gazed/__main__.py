"""``python -m gazed``: the command line."""

from gazed.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main(prog_name="gazed")
