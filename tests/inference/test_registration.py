"""A model's descriptors in the place of FPFH: the same pose; what is none is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from geojax import points
from geojax.graphs import Budget, Structure, pad, sample
from geojax.inference import Predictor, register
from geojax.model import Card, Model
from geojax.networks import PARENet
from geojax.outputs import Output

POINTS, VOXEL = 90, 0.02  # each point is alone in its voxel, and sees those beside it
TURN = Rotation.from_rotvec([0.3, -1.2, 2.0]).as_matrix()
SHIFT = np.array([4.0, -2.0, 1e3])


def cloud(seed: int = 0) -> np.ndarray:
    """A bumpy sheet, so that normals are well defined."""
    rng = np.random.default_rng(seed)
    x = 0.036 * np.stack(np.meshgrid(np.arange(10), np.arange(9)), -1).reshape(-1, 2)
    x = x + rng.uniform(-4e-4, 4e-4, x.shape)
    return np.column_stack([x, 0.015 * np.sin(9 * x[:, 0]) * np.cos(14 * x[:, 1] + 1)])


def described(*outputs: Output, irreps: str) -> Model:
    network = PARENet(
        channels=(4, 8), neighbors=8, kernels=2, width=12, centres=8, heads=2, global_layers=1,
        vectors=("normals",), irreps_out=irreps,
    )  # fmt: skip
    inputs = {"part": np.repeat([0.0, 1.0], 6), "normals": np.eye(12, 3)}
    pair = Structure(np.eye(12, 3), np.zeros(12, np.int32), inputs=inputs)
    graph = pad([sample(pair, 0.0, members=16)], Budget(16, 1, 2)).graph
    shapes = jax.eval_shape(network.init, jax.random.key(0), graph)
    rng = np.random.default_rng(1)
    drawn = lambda x: jnp.asarray(rng.normal(scale=0.5, size=x.shape), jnp.float32)
    return Model(network, jax.tree.map(drawn, shapes), Card(name="told-apart", outputs=outputs))


PLACE = Output("node_targets.place", "12x0e", unit="")


@pytest.fixture(scope="module")
def model() -> Model:
    return described(PLACE, irreps="12x0e")


def test_the_pose_is_found_by_the_descriptors_of_the_model(model, monkeypatch):
    """Of networks without training too, the same place has the same invariant numbers."""
    seen = []
    monkeypatch.setattr(Predictor, "__call__", _told(seen, Predictor.__call__))
    rng = np.random.default_rng(3)
    x = cloud()
    y = (x @ TURN.T + SHIFT)[rng.permutation(POINTS)]
    found = register(model, x, y, voxel=VOXEL)
    off = x @ found.matrix[:3, :3].T + found.matrix[:3, 3] - (x @ TURN.T + SHIFT)
    assert np.abs(off).max() < 1e-3 and found.fitness == 1
    assert found.matches > 0.8 * POINTS and found.agreement > 0.9
    ((pair, properties),) = seen
    assert properties == ("node_targets.place",)
    assert pair.inputs["part"].tolist() == [0.0] * POINTS + [1.0] * POINTS
    np.testing.assert_allclose(np.linalg.norm(pair.inputs["normals"], axis=1), 1, atol=1e-5)


def _told(seen: list, call):
    def noted(self, structures, properties=None):
        seen.extend((s, properties) for s in structures)
        return call(self, structures, properties)

    return noted


def test_descriptors_that_tell_nothing_find_no_pose(model):
    """So the descriptors are what is matched: those of a constant are not."""
    same = jax.tree.map(jnp.zeros_like, model.params)
    constant = Model(model.network, same, model.card)
    with pytest.raises(ValueError, match="three matches that agree"):
        register(constant, cloud(), cloud() @ TURN.T, voxel=VOXEL)


def test_a_voxel_that_leaves_no_normals_is_named(model):
    with pytest.raises(ValueError, match="try another voxel than 9"):
        register(model, cloud(), cloud(), voxel=9.0)


def test_the_output_is_named_where_there_are_several():
    both = (PLACE, Output("node_targets.shared", "2x0e", unit=""))
    model = described(*both, irreps="12x0e+2x0e")
    with pytest.raises(ValueError, match=r"puts out node_targets.place, node_targets.shared.*name"):
        register(model, cloud(), cloud(), voxel=VOXEL)
    with pytest.raises(ValueError, match="'targets.pose' was asked for"):
        register(model, cloud(), cloud(), voxel=VOXEL, output="targets.pose")
    found = register(model, cloud(), cloud(), voxel=VOXEL, output="node_targets.place")
    np.testing.assert_allclose(found.matrix, np.eye(4), atol=1e-4)


def test_a_model_without_descriptors_is_refused():
    model = described(Output("targets.label", "3x0e", "mean", unit=""), irreps="3x0e")
    with pytest.raises(ValueError, match="none; geojax.points.register needs no model"):
        register(model, cloud(), cloud(), voxel=VOXEL)
    assert points.register is not register
