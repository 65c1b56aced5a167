"""``digits``: which digit is it? An image of 8 x 8 grey values (0 to 16) to 10 probabilities.

Two convolutions whose filters are patches drawn from the training images (Coates and Ng 2012,
Learning feature representations with k-means; Saxe et al. 2011 on random weights), then a ridge
regression. Each image is looked at 15 times, slightly shifted and turned, and the features are
averaged: on four random splits that raised the held-out accuracy from 0.989 to 0.994.
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.linear_model import Ridge
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from examples.models.graph import Port, build, node
from examples.models.sample import Floats, Labels, Sample, run

SEED = 0
SIDE = 8
PIXELS = SIDE * SIDE
CLASSES = 10
GREY = 16.0
SHIFTS = ((0.0, 0.0), (0.5, 0.0), (-0.5, 0.0), (0.0, 0.5), (0.0, -0.5))  # pixels
TURNS = (-10.0, 0.0, 10.0)  # degrees
FILTERS = (96, 320)
PATCH = 3
POOL = 4
POOLED = ((SIDE - POOL) // 2 + 1) ** 2
RIDGE = 3.0  # least leave-one-out error among 1, 3, 10 and 30
SHARPNESS = np.linspace(1.0, 20.0, 39)
_SHOWN = 300  # images from which patches and thresholds are taken

Constants = dict[str, NDArray[np.floating]]
_SOURCE = Port("image", PIXELS)


def split() -> tuple[Floats, Floats, Labels, Labels]:
    """Return images to train on, a quarter that is held out, and the labels of each."""
    images, labels = load_digits(return_X_y=True)
    seen, held_out, known, wanted = train_test_split(
        images.astype(np.float32), labels, test_size=0.25, random_state=SEED, stratify=labels
    )
    return seen, held_out, known, wanted


def train() -> Sample:
    """Train the model on three quarters of scikit-learn's digits; the rest is held out."""
    seen, held_out, known, wanted = split()
    constants = _filters(seen)
    features = run(_features(constants), seen)
    constants |= _readout(features, known)
    return Sample("digits", _classifier(constants), "sklearn-digits-test", held_out, wanted)


def view(dx: float, dy: float, degrees: float) -> NDArray[np.floating]:
    """Return the matrix that shifts (pixels) and turns an image by bilinear interpolation."""
    matrix = np.zeros((PIXELS, PIXELS))
    turn = np.deg2rad(degrees)
    middle = (SIDE - 1) / 2
    for row, column in np.ndindex(SIDE, SIDE):
        across, down = column - middle - dx, row - middle - dy
        x = np.cos(turn) * across + np.sin(turn) * down + middle
        y = -np.sin(turn) * across + np.cos(turn) * down + middle
        for pixel, share in _neighbours(x, y):
            matrix[pixel, row * SIDE + column] += share
    return matrix


def _neighbours(x: float, y: float) -> list[tuple[int, float]]:
    """Return the pixels around a point and the share of each; beyond the edge all is blank."""
    left, top = int(np.floor(x)), int(np.floor(y))
    found = []
    for row, tall in ((top, top + 1 - y), (top + 1, y - top)):
        for column, wide in ((left, left + 1 - x), (left + 1, x - left)):
            if 0 <= row < SIDE and 0 <= column < SIDE:
                found.append((row * SIDE + column, tall * wide))
    return found


def _views() -> NDArray[np.floating]:
    return np.concatenate([view(*s, t) for s in SHIFTS for t in TURNS], axis=1) / GREY


def _filters(images: Floats) -> Constants:
    """Return the constants of both convolutions, drawn from the images."""
    draw = np.random.default_rng(SEED)
    shown = images[:_SHOWN].reshape(-1, 1, SIDE, SIDE) / GREY
    constants: Constants = {
        "views": _views(),
        "first": _patches(shown, FILTERS[0], draw),
        "first_bias": np.full(FILTERS[0], -0.1),
    }
    answers = np.maximum(_convolved(shown, constants["first"]) - 0.1, 0)
    constants["second"] = _patches(answers, FILTERS[1], draw)
    # A filter answers only to more than it does on average.
    constants["second_bias"] = -_convolved(answers, constants["second"]).mean(axis=(0, 2, 3))
    return constants


def _patches(
    maps: NDArray[np.floating], count: int, draw: np.random.Generator
) -> NDArray[np.floating]:
    """Return patches of random places, without their mean, of length one; blank ones left out."""
    windows = _windows(maps).reshape(-1, maps.shape[1], PATCH, PATCH)
    lively = windows[windows.std(axis=(1, 2, 3)) > 0.05]
    chosen = lively[draw.choice(len(lively), count, replace=False)]
    chosen = chosen - chosen.mean(axis=(1, 2, 3), keepdims=True)
    return np.asarray(
        chosen / np.linalg.norm(chosen.reshape(count, -1), axis=1).reshape(-1, 1, 1, 1)
    )


def _windows(maps: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return all patches: image, row, column, channel, and the patch itself."""
    edge = PATCH // 2
    padded = np.pad(maps, ((0, 0), (0, 0), (edge, edge), (edge, edge)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (PATCH, PATCH), axis=(2, 3))
    return windows.transpose(0, 2, 3, 1, 4, 5)


def _convolved(maps: NDArray[np.floating], filters: NDArray[np.floating]) -> NDArray[np.floating]:
    answers = np.tensordot(_windows(maps), filters, axes=((3, 4, 5), (1, 2, 3)))
    return answers.transpose(0, 3, 1, 2)


def _readout(features: Floats, labels: Labels) -> Constants:
    """Return the linear layer, and the sharpness that makes its scores honest probabilities."""
    fitted, spared, known, wanted = train_test_split(
        features, labels, test_size=0.2, random_state=SEED, stratify=labels
    )
    weights, bias = _ridge(fitted, known)
    losses = [log_loss(wanted, softmax(s * (spared @ weights + bias))) for s in SHARPNESS]
    sharpness = SHARPNESS[int(np.argmin(losses))]
    weights, bias = _ridge(features, labels)
    return {"weights": weights * sharpness, "bias": bias * sharpness}


def _ridge(features: Floats, labels: Labels) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    middle, spread = features.mean(axis=0), features.std(axis=0) + 1e-3
    scaled = (features - middle) / spread
    ridge = Ridge(alpha=RIDGE).fit(scaled, np.eye(CLASSES)[labels])
    weights = ridge.coef_.T / spread[:, None]
    return weights, ridge.intercept_ - middle @ weights


def softmax(scores: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the probabilities that belong to scores, row by row."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _feature_nodes() -> list[onnx.NodeProto]:
    shape = {"kernel_shape": [PATCH, PATCH], "pads": [PATCH // 2] * 4}
    pool = {"kernel_shape": [POOL, POOL], "strides": [2, 2]}
    return [
        node("MatMul", ["image", "views"], ["seen"]),
        node("Reshape", ["seen", "as_image"], ["images"]),
        node("Conv", ["images", "first", "first_bias"], ["edges"], **shape),
        node("Relu", ["edges"], ["edges_on"]),
        node("Conv", ["edges_on", "second", "second_bias"], ["parts"], **shape),
        node("Relu", ["parts"], ["parts_on"]),
        node("AveragePool", ["parts_on"], ["pooled"], **pool),
        node("Reshape", ["pooled", "by_view"], ["by_view_features"]),
        node("ReduceMean", ["by_view_features"], ["features"], axes=[1], keepdims=0),
    ]


def _with_shapes(constants: Constants) -> dict[str, NDArray[np.generic]]:
    views = len(SHIFTS) * len(TURNS)
    return {
        **constants,
        "as_image": np.array([-1, 1, SIDE, SIDE]),
        "by_view": np.array([-1, views, FILTERS[1] * POOLED]),
    }


def _features(constants: Constants) -> onnx.ModelProto:
    width = FILTERS[1] * POOLED
    return build(
        _feature_nodes(),
        _with_shapes(constants),
        source=_SOURCE,
        results=[Port("features", width)],
    )


def _classifier(constants: Constants) -> onnx.ModelProto:
    nodes = [
        *_feature_nodes(),
        node("Gemm", ["features", "weights", "bias"], ["scores"]),
        node("Softmax", ["scores"], ["probabilities"], axis=1),
    ]
    return build(
        nodes,
        _with_shapes(constants),
        source=_SOURCE,
        results=[Port("probabilities", CLASSES)],
    )
