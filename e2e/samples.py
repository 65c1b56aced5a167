"""Questions to the sample models with known answers: data held out from training."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2e.models import DIGITS, Sample
from examples.models import digits, tumor


@dataclass(frozen=True)
class Question:
    """One item, as a batch of one, and what it really is."""

    value: NDArray[np.float32]
    text: str
    truth: str
    names: tuple[str, ...]
    """What each class is called."""


def questions(sample: Sample, count: int) -> list[Question]:
    """Return ``count`` questions to a sample, spread over what was held out, at most all of it."""
    if sample == DIGITS:
        _, data, _, labels = digits.split()
        classes: tuple[str, ...] = tuple("0123456789")
    else:
        _, data, _, labels = tumor.split()
        classes = ("malignant", "benign")
    step = max(1, len(data) // count)
    return [
        Question(
            value=data[i : i + 1],
            text=f"{sample.name} no. {i}",
            truth=classes[int(labels[i])],
            names=classes,
        )
        for i in range(0, len(data), step)
    ][:count]
