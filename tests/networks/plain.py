"""The networks in the frames of edges at lmax = 1, written again in numpy with loops.

Frames are made from the edge and a random roll; features are [4, channel]: the scalar, x, y, z.
"""

import math

import numpy as np

GAUSS, WEIGHTS = np.polynomial.hermite_e.hermegauss(120)


def normalised(f):
    """f divided by the root of its second moment over the normal distribution."""
    moment = np.sum(WEIGHTS * f(GAUSS) ** 2) / np.sum(WEIGHTS)
    return lambda x: f(x) / math.sqrt(moment)


sigmoid = normalised(lambda x: 1 / (1 + np.exp(-x)))
silu = normalised(lambda x: x / (1 + np.exp(-x)))


def dense(p, x):
    kernel = np.asarray(p["kernel"])
    return x @ kernel / math.sqrt(len(kernel)) + np.asarray(p.get("bias", 0.0))


def mlp(p, x):
    for i in range(len(p)):
        x = dense(p[f"dense_{i}"], silu(x) if i else x)
    return x


def linear(p, x):
    """Of features: one matrix for each degree, a bias for the scalars."""
    kernel = np.asarray(p["kernel"]) / math.sqrt(x.shape[-1])
    rows = [x[:1] @ kernel[0] + np.asarray(p["bias"]), x[1:] @ kernel[1]]
    return np.concatenate(rows)


def layer_norm(p, x):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5)
    return x * np.asarray(p["gain"]) + np.asarray(p["shift"])


def separable_norm(p, x):
    gain = np.asarray(p["gain"])
    vectors = x[1:] / math.sqrt((x[1:] ** 2).mean() + 1e-5) * gain[1]
    return np.concatenate([layer_norm({"gain": gain[0], "shift": p["shift"]}, x[:1]), vectors])


def rms_norm(p, x):
    x = np.concatenate([x[:1] - x[:1].mean(), x[1:]])
    x = x / math.sqrt(((x[:1] ** 2).mean() + (x[1:] ** 2).mean()) / 2 + 1e-5)
    gain, shift = np.asarray(p["gain"]), np.asarray(p["shift"])
    return np.concatenate([x[:1] * gain[0] + shift, x[1:] * gain[1]])


def gate_feed_forward(p, x, function=lambda x: x):
    gates = sigmoid(function(dense(p["gates"], x[0])))
    x = linear(p["linear_0"], x)
    return linear(p["linear_1"], np.concatenate([silu(x[:1]), x[1:] * gates]))


def radial(p, x):
    last = max(int(name[-1]) for name in p if name.startswith("dense"))
    for i in range(last + 1):
        x = dense(p[f"dense_{i}"], silu(layer_norm(p[f"norm_{i - 1}"], x)) if i else x)
    return x


def frame(vector, rng):
    """A rotation that takes the vector to y, with a random roll."""
    y = vector / np.linalg.norm(vector)
    x = np.cross(y, rng.normal(size=3))
    x /= np.linalg.norm(x)
    return np.stack([x, y, np.cross(x, y)])


def turned(matrix, x):
    return np.concatenate([x[:1], matrix @ x[1:]])


def so2_linear(p, x, gains=None):
    """Of rows (0, x, y, z) in a frame, y the order 0; orders +-1 are one complex number, z + ix."""
    if gains is not None:
        gains = gains.reshape(3, -1)  # l = 0; l = 1 of orders 0 and 1
        x = x * gains[[0, 2, 1, 2]]
    channels = x.shape[-1]
    zero = np.concatenate([x[0], x[2]]) @ np.asarray(p["kernel_0"]) / math.sqrt(2 * channels)
    zero = zero + np.asarray(p["bias"])
    matrix = np.asarray(p["kernel_1r"]) + 1j * np.asarray(p["kernel_1i"])
    one = (x[3] + 1j * x[1]) @ matrix / math.sqrt(2 * channels)
    width = len(one)
    rows = np.stack([zero[:width], one.imag, zero[width : 2 * width], one.real])
    return rows, zero[2 * width :]


def waves(r, cutoff, count):
    centres = np.linspace(0, cutoff, count)
    return np.exp(-((r - centres) ** 2) / (8 * centres[1] ** 2))


def envelope(r, cutoff):
    """Power 5."""
    x = min(r / cutoff, 1)
    return 1 - 21 * x**5 + 35 * x**6 - 15 * x**7


def edges_of(positions, cutoff):
    """Pairs (sender, receiver) and the vector between them."""
    pairs = np.ndindex(len(positions), len(positions))
    vectors = {(j, i): positions[i] - positions[j] for j, i in pairs if i != j}
    return {pair: v for pair, v in vectors.items() if np.linalg.norm(v) < cutoff}


def invariants(p, wave, scalars, j, i):
    return np.concatenate([wave, dense(p["sender"], scalars[j]), dense(p["receiver"], scalars[i])])


def edge_degree(p, edge, vector):
    """Functions of the invariants times the harmonics of the direction."""
    weights = radial(p["radial"], edge).reshape(2, -1)
    unit = vector / np.linalg.norm(vector)
    return np.concatenate([weights[:1], math.sqrt(3) * unit[:, None] * weights[1:]])


def message(p, ends, edge, kept=0):
    """Rows in the frame, from rows of both ends, and invariants."""
    rows, scalars = so2_linear(p["first"]["linear"], ends, radial(p["first"]["radial"], edge))
    rows = np.concatenate([silu(rows[:1]), rows[1:] * sigmoid(scalars[kept:])])
    return so2_linear(p["second"], rows)[0], scalars[:kept]
