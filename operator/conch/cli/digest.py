"""``conch digest``, for those who write a Model."""

from pathlib import Path
from typing import Annotated

import typer

from conch.clients.checksums import digest_of


def digest_command(
    path: Annotated[Path, typer.Argument(help="a file or directory", exists=True)],
) -> None:
    """Print the sha256 of a model's file or directory, for spec.variants[].source.sha256."""
    print(digest_of(path))
