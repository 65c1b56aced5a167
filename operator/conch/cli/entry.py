"""The program ``conch``: the short way to what must start fast, else the whole command line."""

import sys


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["fetch"]:
        from conch.cli.fetch import fetch_command  # noqa: PLC0415  # without typer

        fetch_command(sys.argv[2:])
    else:
        from conch.cli.main import app  # noqa: PLC0415

        app()


if __name__ == "__main__":
    main()
