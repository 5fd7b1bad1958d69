"""Vector neurons on one cloud, written again in numpy with loops; rows are [point, 3, channel]."""

import jax
import jax.numpy as jnp
import numpy as np


def parameters(network, graph):
    """Drawn at random, and the tree of them in numpy."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(network.init, jax.random.key(0), graph)
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(scale=0.5, size=x.shape)), shapes)
    return params, jax.tree.map(np.asarray, params["params"])


def nearest(x, k):
    """The k nearest rows of each row, itself first."""
    distance = np.linalg.norm(x[:, None] - x[None], axis=-1)
    return np.argsort(distance, axis=1, kind="stable")[:, :k]


def bent(q, d, slope):
    """One vector, along d made shorter where it points against d."""
    along = q @ d / (d @ d)
    return q if along >= 0 else q - (1 - slope) * along * d


def neuron(p, v, slope):
    """Of one row [3, channel], or of all."""
    if v.ndim == 3:
        return np.stack([neuron(p, row, slope) for row in v])
    q, d = v @ p["linear"]["kernel"], v @ p["direction"]["kernel"]
    d = np.broadcast_to(d, q.shape)
    return np.stack([bent(q[:, c], d[:, c], slope) for c in range(q.shape[1])], 1)


def norm(p, v):
    """Of each channel over the cloud."""
    return v / np.sqrt((v**2).sum(1).mean(0) + 1e-5) * p["gain"]


def edges(p, v, near, slope, cross=False):
    kernel = p["kernel"].reshape(-1, p["kernel"].shape[-1])
    kernel = {"linear": {"kernel": kernel[:, : kernel.shape[1] // 2]}} | {
        "direction": {"kernel": kernel[:, kernel.shape[1] // 2 :]}
    }
    rows = []
    for i, others in enumerate(near):
        sent = []
        for j in others:
            parts = [v[j] - v[i], v[i], *[np.cross(v[j], v[i], axis=0)] * cross]
            sent.append(neuron(kernel, np.concatenate(parts, 1), slope))
        rows.append(np.mean(sent, 0))
    return np.stack(rows)


def factors(p, v, scalars):
    p = p["factor"]
    h = scalars @ p["affine_0"]["kernel"] + p["affine_0"]["bias"]
    h = h / (1 + np.exp(-h))
    return v * (1 + h @ p["affine_1"]["kernel"] + p["affine_1"]["bias"])[:, None]


def invariants(p, v, slope):
    t = neuron(p["layer_1"], neuron(p["layer_0"], v, slope), slope) @ p["vectors"]["kernel"]
    return np.concatenate([(t[:, :, [i]] * v).sum(1) for i in range(3)], -1)


def layer(p, h, i):
    h = h @ p[f"affine_{i}"]["kernel"] + p[f"affine_{i}"]["bias"]
    h = (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-5)
    return h * p[f"norm_{i}"]["gain"] + p[f"norm_{i}"]["shift"]


def point_head(p, h, local=None):
    """Of one hidden layer; for points where `local` is given."""
    y = h.max(0)[None]
    if local is not None:
        y = np.concatenate([local, np.repeat(y, len(local), 0)], -1)
    y = np.maximum(layer(p, y, 0), 0) @ p["output"]["kernel"] + p["output"]["bias"]
    return y if local is not None else np.repeat(y, len(h), 0)


def head(p, v, layers, slope, readout="graph"):
    """Scalars, and vectors [point, 3, channel]."""
    mean = np.broadcast_to(v.mean(0), v.shape)
    both = np.concatenate([v, mean], -1)
    h = invariants(p["invariants"], both, slope)
    local = invariants(p["local"], layers, slope) if readout == "node" else None
    u = neuron(p["vectors_0"], both if readout == "node" else mean, slope)
    return point_head(p["head"], h, local), u @ p["vectors_1"]["kernel"]
