"""What ``conch fetch`` said last, read back from the pod's status."""

from conch.api.conditions import Reason

_REASONS = (Reason.SOURCE_UNAVAILABLE, Reason.CHECKSUM_MISMATCH)


def fetch_failure(message: str | None) -> tuple[Reason, str]:
    """Return why the init container ended, from its termination message, and the sentence.

    Whatever is not of our form, such as a missing image's command, is a source that is not to
    be had.
    """
    lines = [line.strip() for line in (message or "").splitlines() if line.strip()]
    for line in reversed(lines):
        for reason in _REASONS:
            if line.startswith(f"{reason}: "):
                return reason, line.removeprefix(f"{reason}: ")
    return Reason.SOURCE_UNAVAILABLE, lines[-1] if lines else "the model's files were not fetched"
