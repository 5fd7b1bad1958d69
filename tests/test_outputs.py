"""What an output may be, and where it stands among the numbers of a network."""

import pytest

from geojax.outputs import Output, slices


class Network:
    irreps_out = "6x0e+1o"


def test_slices_are_consecutive_and_hold_all_members():
    outputs = [Output(members=4), Output("targets.a", "2x0e"), Output("node_targets.b", "1o")]
    assert slices(Network(), outputs) == {
        "energy": slice(0, 4),
        "targets.a": slice(4, 6),
        "node_targets.b": slice(6, 9),
    }
    with pytest.raises(ValueError, match=r"make 2x0e, the network has 6x0e\+1x1o"):
        slices(Network(), [Output(members=2)])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"members": 0}, "two members or more"),
        ({"name": "hessian", "members": 2}, "no rotation and no hessian"),
        ({"name": "targets.r", "irreps": "6x0e", "rotation": "6d", "members": 2}, "no rotation"),
    ],
)
def test_members_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Output(**fields)
