"""Small fields of each network, and its promises, for `test_contract` and `test_cloud_contract`."""

import math

CUTOFF = 3.0

# Networks in the frames of edges: one chiral with l = 2 and orders cut, two small that see no hand
ESEN = {"channels": 4, "lmax": 2, "m_max": 1, "layers": 1, "hidden": 4, "edge_channels": 4}
ESCN = {**ESEN, "lmax": 1, "chiral": False}
EQUIFORMER = {**ESCN, "heads": 2, "alpha_channels": 4, "value_channels": 2, "ffn_channels": 4}
STEERABLE = {"channels": 4, "lmax": 1, "layers": 2, "radial_width": 6}
TRANSFORMER = {**STEERABLE, "layers": 1, "heads": 2, "factor": 2}
SE3T = {**STEERABLE, "layers": 1, "heads": 2, "divide": 2}
ITERATIVE = {**STEERABLE, "layers": 1, "iterations": 2}
MULTIVECTORS = {"channels": 3, "layers": 1, "blocks": 1}
ALLEGRO = {"channels": 3, "two_body": (8, 6), "latent": (6,), "readout": (4,)}
VECTORS = {"channels": 4, "layers": 2, "n_basis": 6}
MATRICES = {"channels": 4, "layers": 1, "n_basis": 8}
COMFORMER = {"channels": 6, "layers": 1, "n_basis": 8, "lattice_edges": False}
WHOLE = {"layers": 2, "lattice_edges": True, "readout": "node"}
ECOMFORMER = {**COMFORMER, "scalar_channels": 4, "tensor_channels": 2}
LIE = {"channels": 6, "layers": 1, "heads": 2, "kernel_width": 3, "lifts": 4}
GRID = {"channels": 6, "layers": 1, "orientations": 12, "degree": 2, "hidden": 6, "n_basis": 6}
BACKBONE = {"name": "nequip", "cutoff": CUTOFF, "channels": 3, "lmax": 2, "layers": 1}
BACKBONE |= {"radial_width": 6, "parity": False}
PLAIN = {"name": "lie-transformer", "cutoff": CUTOFF, "channels": 4, "layers": 1, "heads": 2}
PLAIN |= {"kernel_width": 3, "lifts": 1}  # without symmetry but for translations
FRAMES = {"backbone": PLAIN, "options": (("pairs", 56),)}
HIP = {"backbone": BACKBONE, "channels": 3, "n_basis": 4, "radial_width": 6}
# Small fields of each network, and more variants that keep the same promises.
CASES: dict[str, dict[str, dict]] = {
    "allegro": {
        "": {**ALLEGRO, "lmax": 1},
        "natural": {**ALLEGRO, "parity": False},
        "chiral": {**ALLEGRO, "parity": False, "chiral": True},
    },
    "cgenn": {"": MULTIVECTORS, "deep": {**MULTIVECTORS, "layers": 2}},
    "ecomformer": {"": ECOMFORMER, "whole": {**ECOMFORMER, **WHOLE}},
    "equiformer-v2": {"": EQUIFORMER},
    "escn": {"": ESCN},
    "esen": {"": ESEN},
    "egnn": {"": {"channels": 8, "layers": 2}},
    "icomformer": {"": COMFORMER, "whole": {**COMFORMER, **WHOLE}},
    "glgenn": {"": MULTIVECTORS},
    "hip": {"": HIP},
    "mace": {
        "": {"channels": 3, "lmax": 1, "correlation": 2, "radial": (8,), "readout": 4},
        "cubic": {"channels": 3, "lmax": 2, "radial": (8,), "readout": 4},
        "gaunt": {"channels": 3, "lmax": 2, "radial": (8,), "readout": 4, "contraction": "gaunt"},
    },
    "nequip": {
        "": {"channels": 4, "layers": 2, "radial_width": 8},
        "natural": {"channels": (6, 4, 2), "lmax": 2, "layers": 2, "parity": False},
        "chiral": {"channels": 4, "layers": 3, "parity": False, "chiral": True},
    },
    "iterative-se3-transformer": {"": ITERATIVE},
    "lie-transformer": {
        "": LIE,
        "mlp": {**LIE, "combination": "mlp", "readout": "graph"},
        # Of larger heads, with parameters as large as these, it picks one: forces are all rounding.
        "softmax": {**LIE, "channels": 4, "heads": 4, "normalization": "softmax"},
        "translations": {**LIE, "lifts": 1},
    },
    "ponita": {
        "": GRID,
        "complete": {**GRID, "orientations": 6, "invariants": "complete"},
        "smooth": {**GRID, "degree": 4, "invariants": "smooth", "layer_scale": 0.5},
    },
    "se3-transformer": {"": SE3T},
    "painn": {"": VECTORS},
    "segnn": {"": {"channels": 3, "layers": 1}},
    "steerable-transformer": {
        "": TRANSFORMER,
        "chiral": {**TRANSFORMER, "lmax": 2, "chiral": True},
    },
    "symmetrized": {
        "": FRAMES,
        "pca": {**FRAMES, "provider": "pca", "options": ()},
    },
    "tensornet": {"": MATRICES},
    "tfn": {"": STEERABLE},
}
# Fields with which the network puts out more than scalars.
TENSORS = {
    "allegro": {"irreps_out": "1o+2x0e+2e+1e", "lmax": 2},
    "cgenn": {"irreps_out": "1o+2x0e+1e"},
    "ecomformer": {"irreps_out": "1o+2x0e+2e"},
    "equiformer-v2": {"irreps_out": "1o+2x0e+2e", "lmax": 2, "chiral": False},
    "escn": {"irreps_out": "1o+2x0e+2e", "lmax": 2, "chiral": False},
    "esen": {"irreps_out": "1o+2x0e+2e", "chiral": False},
    "egnn": {"update_positions": True, "irreps_out": "2x0e+1o"},
    "glgenn": {"irreps_out": "1o+2x0e+1e"},
    "hip": {"irreps_out": "1o+2x0e+2e"},
    "mace": {"irreps_out": "1o+2x0e+2e", "lmax": 2, "lmax_hidden": 2},
    "nequip": {"irreps_out": "1o+2x0e+2e+1e", "lmax": 2},
    "iterative-se3-transformer": {"irreps_out": "2x0e+2e+2x1o", "lmax": 2},
    "lie-transformer": {"irreps_out": "1o+2x0e+2e"},
    "ponita": {"irreps_out": "1o+2x0e+2e"},
    "se3-transformer": {"irreps_out": "1o+2x0e+2e", "lmax": 2, "relative": "add"},
    "painn": {"irreps_out": "1o+2x0e"},
    "steerable-transformer": {"irreps_out": "1o+2x0e+2e", "lmax": 2},
    "segnn": {"irreps_out": "1o+2x0e+2e"},
    "symmetrized": {"irreps_out": "1o+2x0e+2e"},
    "tensornet": {"irreps_out": "1o+2x0e+2e"},
    "tfn": {"irreps_out": "1o+2x0e+2e", "lmax": 2},
}
# Biases: its nodes have an energy of their own, which the E0s absorb.
NOT_ZERO_ALONE = {"equiformer-v2", "escn", "esen", "egnn", "tfn", "se3-transformer"} | {
    "iterative-se3-transformer",
    "lie-transformer",
    "ponita",
    "cgenn",
    "glgenn",
    "painn",
    "segnn",
    "steerable-transformer",
    "symmetrized",
    "tensornet",
    "icomformer",
    "ecomformer",
}
# Networks around a network: the small one that they are tried with.
INNER = {"hip": BACKBONE, "symmetrized": PLAIN}
# Tells mirror images apart by the lattice, which a molecule has not; see test_icomformer.
CHIRAL_CRYSTALS = {"icomformer"}
# Exactly equivariant under their `symmetries` alone. With small parameters, as at the start, other
# rotations change forces by up to this share of the largest; with more orientations, by less.
APPROXIMATE = {"lie-transformer": 0.02, "ponita": 0.1}
# Standard deviation of the parameters, 1.5 elsewhere: larger ones move its points by many Å.
SPREAD = {"iterative-se3-transformer": 0.5}
# They take longest to trace.
DEAR = {"allegro", "iterative-se3-transformer", "symmetrized"}
DEAR |= {"assembly", "equiformer-v2", "geometric-algebra-attention", "pare-net", "risurconv"}
DEAR |= {"roitr", "spherical-neurons", "spinnet", "steerable-transformer"}

DGCNN = {"neighbors": 4, "widths": (6, 8), "embedding": 10, "head": (6,)}
VN_DGCNN = {"neighbors": 4, "widths": (4, 5), "embedding": 6, "head": (6,), "scalars": ("radius",)}
VN_POINTNET = {**VN_DGCNN, "widths": (4, 4, 5, 6), "context": (4, 6)}
del VN_POINTNET["embedding"]
VN_POINTS = {"readout": "node", "vectors": ("normals",), "irreps_out": "1o+2x0e+1o"}
TRAJECTORY = {"channels": 6, "layers": 2, "nearest": 4, "irreps_out": "3x1o"}
EQMOTION = {**TRAJECTORY, "vector_channels": 4}
TYPES = {"layers": 3, "edge_types": 2, "vectors": ("history",), "scalars": ("radius",)}
RISURCONV = {"centres": (14, 6), "neighbors": (5, 4), "widths": (6, 8), "steps": (2, 1)}
RISURCONV |= {"hidden": (6, 6), "embedding": 8, "heads": 2, "layers": 1, "feed_forward": 8}
RISURCONV |= {"head": (6,)}
SPINNET = {"radius": 2.0, "voxel_radius": 1.0, "elevations": 4, "azimuths": 6, "patch": 12}
SPINNET |= {"samples": 5, "point_width": 4, "widths": (5,), "flat_widths": (4,), "chunk": 16}
SPINNET |= {"irreps_out": "3x0e"}
ROITR = {"centres": (6, 3), "stride": 2, "neighbors": (4, 4, 3), "widths": (4, 6, 8), "heads": 2}
ROITR |= {"blocks": (1, 2, 1), "distance": 1.0, "irreps_out": "3x0e"}
PARE = {"channels": (3, 4), "neighbors": 4, "kernels": 2, "width": 6, "centres": 4, "heads": 2}
PARE |= {"stride": 2, "global_layers": 1, "distance": 1.0, "irreps_out": "2x0e+1o"}
SPHERES = {"spheres": 3, "neighbors": 4, "widths": (4,), "embedding": 5, "head": (6,)}
SPHERES |= {"irreps_out": "0e+1o", "scalars": ("radius",)}
TUPLES = {"channels": 4, "layers": 1, "hidden": 5, "irreps_out": "1o+2x0e"}
LEARNED = {"backbone": {"name": "dgcnn", **DGCNN}, "provider": "learned", "irreps_out": "0e+1o"}
LEARNED["options"] = (("nearest", 4), ("cutoff", math.inf), ("channels", 4), ("layers", 1))
PIECE = {"name": "vn-dgcnn", "neighbors": 4, "widths": (4,), "embedding": 6}
ASSEMBLY = {"backbone": PIECE, "parts": 3, "channels": 5, "rank": 2, "width": 6}
# Networks of point clouds: they jump (nearest neighbours, maxima) and know no cutoff or elements.
# Each variant is tried on clouds with the inputs `normals` and `velocity` (vectors), `history`
# (several vectors) and `radius` (a scalar).
CLOUDS: dict[str, dict[str, dict]] = {
    "assembly": {
        "": ASSEMBLY,
        "svd": {**ASSEMBLY, "rotation": "svd", "parts": 2},
    },
    "dgcnn": {
        "": DGCNN,
        "points": {**DGCNN, "readout": "node", "vectors": ("normals",), "scalars": ("radius",)},
    },
    "eqmotion": {
        "": EQMOTION,
        "agents": {**EQMOTION, "categories": 3, "scalars": ("radius",)},
    },
    "geometric-algebra-attention": {
        "": {**TUPLES, "mode": "full", "irreps_out": "1o+2x0e+1e", "scalars": ("radius",)},
        "triples": {**TUPLES, "rank": 3, "readout": "graph"},
        "achiral": {**TUPLES, "rank": 3, "chiral": False, "irreps_out": "1o+0e+1e+2x0o"}
        | {"merge": "mean", "join": "mean"},
    },
    "locs": {
        "": TRAJECTORY,
        "types": {**TRAJECTORY, **TYPES, "second": "normals"},
    },
    "pare-net": {
        "": PARE,
        "inputs": {**PARE, "scalars": ("radius",), "vectors": ("normals",), "centres": 20},
    },
    "pointnet": {
        "": {"widths": (8, 12), "head": (6,), "irreps_out": "2x0e"},
        "points": {"widths": (8, 12), "head": (6,), "readout": "node", "vectors": ("normals",)},
    },
    "risurconv": {
        "": RISURCONV,
        "points": {**RISURCONV, "readout": "node", "scalars": ("radius",), "irreps_out": "2x0e"},
    },
    "roitr": {
        "": {**ROITR, "global_layers": 1},
        "scalars": {**ROITR, "scalars": ("radius",)},
    },
    "siamese": {
        "": {"backbone": {"name": "pointnet", "widths": (6, 8), "head": ()}, "features": 5}
        | {"head": (7,), "irreps_out": "2x0e"},
    },
    "spherical-neurons": {
        "": SPHERES,
        "points": {**SPHERES, "widths": (4, 5), "readout": "node", "vectors": ("normals",)},
        "chiral": {**SPHERES, "cross": True, "scalars": ()},
    },
    "spinnet": {
        "": SPINNET,
        "sampled": {**SPINNET, "keypoints": 8, "vectors": ("normals",), "begin": "axes"},
    },
    "symmetrized": {"learned": LEARNED},
    "views": {
        "": {"backbone": {"name": "pointnet", "widths": (6, 8), "head": ()}, "features": 5}
        | {"head": (7,), "irreps_out": "2x0e+2x0e"},
    },
    "vn-dgcnn": {
        "": VN_DGCNN,
        "points": {**VN_DGCNN, **VN_POINTS},
        "chiral": {**VN_DGCNN, "cross": True, "irreps_out": "0e+1o", "vectors": ("normals",)},
    },
    "vn-pointnet": {
        "": VN_POINTNET,
        "points": {**VN_POINTNET, **VN_POINTS, "context": ()},
        "chiral": {**VN_POINTNET, "cross": True, "irreps_out": "0e+1o", "vectors": ("normals",)},
    },
}
