"""Why a model's files could not be had. Light to import: the fetch runs on a share of a CPU."""

from enum import StrEnum


class Failure(StrEnum):
    """The reasons that the fetch ends with; conch.api.conditions.Reason has the same."""

    SOURCE_UNAVAILABLE = "SourceUnavailable"
    CHECKSUM_MISMATCH = "ChecksumMismatch"


class SourceError(Exception):
    """The files are not there or not the right ones; the message is a sentence for people."""

    failure = Failure.SOURCE_UNAVAILABLE
    final = True
    """Whether the same attempt would fail again at once: what is wrong must be put right first."""

    def __str__(self) -> str:
        """Return the one line from which the operator reads its reason."""
        sentence = " ".join(super().__str__().split())
        return f"{self.failure}: {sentence}"


class SourceUnavailableError(SourceError):
    """The files can't be read, downloaded or unpacked."""


class SourceUnreachableError(SourceUnavailableError):
    """The server did not answer as it should for as long as was waited; it may later."""

    final = False


class SourceChangedError(SourceUnreachableError):
    """The files were changed while they were downloaded."""


class ChecksumMismatchError(SourceError):
    """The files are others than those that the Model names."""

    failure = Failure.CHECKSUM_MISMATCH
