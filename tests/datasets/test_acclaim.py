"""Acclaim files: a two-bone arm by hand, and what is refused."""

import re

import numpy as np
import pytest

from geojax.datasets.acclaim import joint_positions, read_motion, read_skeleton

ARM = """\
# a comment
:version 1.10
:units
  mass 1.0
  length 0.5
  angle deg
:documentation
   anything at all
:root
   order TX TY TZ RX RY RZ
   axis XYZ
   position 0 0 1
   orientation 0 0 0
:bonedata
  begin
     id 1
     name upper
     direction 1 0 0
     length 2
     axis 0 0 0 XYZ
     dof rx rz
     limits (-160.0 20.0)
            (-70.0 70.0)
  end
  begin
     id 2
     name lower
     direction 0 1 0
     length 3
     axis 0 0 90 XYZ
     dof rx
  end
:hierarchy
  begin
    root upper
    upper lower
  end
"""
STILL = "root 0 0 0 0 0 0\nupper 0 0\nlower 0\n"


def motion(*frames, first=1, head=":FULLY-SPECIFIED\n:DEGREES\n"):
    return head + "".join(f"{i}\n{frame}" for i, frame in enumerate(frames, first))


def places(*frames, arm=ARM, **options):
    skeleton = read_skeleton(arm, "arm.asf")
    return joint_positions(skeleton, read_motion(motion(*frames, **options), skeleton, "arm.amc"))


def test_the_skeleton_is_read():
    found = read_skeleton(ARM, "arm.asf")
    assert found.joints == ("root", "upper", "lower") and found.parents == (-1, 0, 1)
    assert found.dofs == (("tx", "ty", "tz", "rx", "ry", "rz"), ("rx", "rz"), ("rx",))
    assert found.length == 0.5
    np.testing.assert_array_equal(found.offsets, [[0, 0, 1], [2, 0, 0], [0, 3, 0]])


def test_at_rest_bones_are_as_the_skeleton_has_them():
    np.testing.assert_allclose(places(STILL), [[[0, 0, 1], [2, 0, 1], [2, 3, 1]]], atol=1e-15)


def test_a_turn_takes_all_that_hangs_on_it_along():
    """The upper bone by 90° about z: x becomes y, y becomes -x."""
    frame = "root 5 0 0 0 0 0\nupper 0 90\nlower 0\n"
    np.testing.assert_allclose(places(frame)[0], [[5, 0, 1], [5, 2, 1], [2, 2, 1]], atol=1e-14)


def test_a_bone_turns_about_axes_of_its_own():
    """The lower bone's x axis is the world's y (90° about z), along the bone itself.

    Where its axis says 90° about x instead, its x stays that of the world, and a quarter turn
    takes y to z.
    """
    frame = "root 0 0 0 0 0 0\nupper 0 0\nlower 90\n"
    np.testing.assert_allclose(places(frame)[0, 2], [2, 3, 1], atol=1e-14)
    other = ARM.replace("axis 0 0 90 XYZ", "axis 90 0 0 XYZ")
    np.testing.assert_allclose(places(frame, arm=other)[0, 2], [2, 0, 4], atol=1e-14)


def test_the_first_letter_of_the_axis_is_the_first_turn():
    """The upper bone along y, 90° about x and 90° about z.

    XYZ: y -> z, which z leaves. ZYX: y -> -x, which x leaves.
    """
    arm = ARM.replace("direction 1 0 0", "direction 0 1 0")
    frame = "root 0 0 0 0 0 0\nupper 90 90\nlower 0\n"
    np.testing.assert_allclose(places(frame, arm=arm)[0, 1], [0, 0, 3], atol=1e-14)
    other = arm.replace("axis 0 0 0 XYZ", "axis 0 0 0 ZYX")
    np.testing.assert_allclose(places(frame, arm=other)[0, 1], [-2, 0, 1], atol=1e-14)


def test_values_come_in_the_order_of_the_degrees_of_freedom():
    """rz before rx in the file, and still x is turned about first."""
    arm = ARM.replace("dof rx rz", "dof rz rx")
    swapped = places("root 0 0 0 0 0 0\nupper 30 70\nlower 10\n", arm=arm)
    np.testing.assert_array_equal(
        swapped, places("root 0 0 0 0 0 0\nupper 70 30\nlower 10\n", arm=ARM)
    )
    assert np.abs(swapped - places("root 0 0 0 0 0 0\nupper 30 70\nlower 10\n")).max() > 0.1


def test_the_root_turns_the_whole():
    frame = "root 0 0 0 0 90 0\nupper 0 0\nlower 0\n"  # about y: x -> -z
    np.testing.assert_allclose(places(frame)[0], [[0, 0, 1], [0, 0, -1], [0, 3, -1]], atol=1e-14)


def test_radians_are_said_in_the_file():
    frame = f"root 0 0 0 0 0 0\nupper 0 {np.pi / 2}\nlower 0\n"
    np.testing.assert_allclose(
        places(frame, head=":RADIANS\n"), places("root 0 0 0 0 0 0\nupper 0 90\nlower 0\n")
    )


def test_frames_may_start_anywhere():
    skeleton = read_skeleton(ARM, "arm.asf")
    found = read_motion(motion(STILL, STILL, first=135), skeleton, "arm.amc")
    assert found.frames.tolist() == [135, 136]


# fmt: off
SKELETONS = {  # what is replaced, by what, and the message
    "no section": (":hierarchy", ":hierarchie", "arm.asf:33: sections are .*got :hierarchie"),
    "a section twice": (":hierarchy", ":units", "arm.asf:33: .*each once; got :units"),
    "no units of angles": ("  angle deg\n", "", "arm.asf: the section :units states the angle"),
    "other angles": ("angle deg", "angle gon", "arm.asf:6: angles are in deg or rad; got gon"),
    "length of nothing": ("length 0.5", "length 0", "arm.asf:5: a unit of length is positive"),
    "two numbers": ("direction 1 0 0", "direction 1 0", "arm.asf:18: a bone's direction is 3"),
    "no number": ("direction 1 0 0", "direction 1 O 0", "arm.asf:18: .*3 finite numbers; got 1 O"),
    "not finite": ("length 2", "length nan", "arm.asf:19: here are 1 finite numbers; got nan"),
    "long direction": ("direction 1 0 0", "direction 2 0 0", "arm.asf:18: a direction has length"),
    "a negative bone": ("length 2", "length -2", "arm.asf:19: a length is not negative; got -2"),
    "two axes": ("0 0 90 XYZ", "0 0 90 XYY", "arm.asf:30: turns are about x, y and z .* got XYY"),
    "no axis": ("     axis 0 0 90 XYZ\n", "", "arm.asf:25: a bone's axis is 4 words; got none"),
    "unknown freedom": ("dof rx rz", "dof rx l", "arm.asf:21: degrees of freedom .* got l"),
    "one twice": ("dof rx rz", "dof rx rx", "arm.asf:21: a degree of freedom is there once"),
    "unknown key": ("id 2", "number 2", "arm.asf:26: a bone has id, name, .* got number"),
    "a name twice": ("name lower", "name upper", "arm.asf:25: a bone has a name of its own"),
    "no end": ("  end\n:hier", ":hier", "arm.asf:25: a block has its end; got none"),
    "an orphan": ("    upper lower\n", "", "arm.asf: every bone has a parent; got none of lower"),
    "a loop": ("upper lower", "lower lower", "arm.asf:36: a parent hangs on the root .*got lower"),
    "a stranger": ("upper lower", "upper hand", "arm.asf:36: a child is one of .*got hand"),
    "no order": ("   order TX TY TZ RX RY RZ\n", "", "arm.asf:10: the root has its order"),
    "before a section": ("# a comment", "comment", "arm.asf:1: a skeleton begins with a section"),
}
MOTIONS = {
    "no frames": ("", "arm.amc: a motion has frames; got none"),
    "a gap": ("1\n" + STILL + "3\n" + STILL, "arm.amc:5: frames are consecutive, 1 .* got 3"),
    "half a frame": ("1\nroot 0 0 0 0 0 0\nupper 0 0\n", "arm.amc:3: .*got none of lower"),
    "cut off": ("1\n" + STILL + "2\nroot 0 0 0 0 0 0\nupper 0", "arm.amc:7: here are 2 finite .*"),
    "twice": ("1\n" + STILL + "lower 0\n", "arm.amc:5: a joint is there once .*; got lower again"),
    "another joint": ("1\nhand 0\n" + STILL, "arm.amc:2: a line is a frame's number or a joint"),
    "too many values": ("1\n" + STILL.replace("lower 0", "lower 0 0"), "arm.amc:4: here are 1"),
    "infinite": ("1\n" + STILL.replace("lower 0", "lower inf"), "arm.amc:4: .*; got inf"),
    "another directive": (":GRADS\n1\n" + STILL, "arm.amc:1: a motion starts with .*got :GRADS"),
    "no frame number": (STILL, "arm.amc:1: a line is a frame's number or a joint"),
}
# fmt: on


@pytest.mark.parametrize("name", SKELETONS)
def test_a_skeleton_is_refused(name):
    old, new, message = SKELETONS[name]
    assert ARM.count(old) == 1, old
    with pytest.raises(ValueError, match=message) as error:
        read_skeleton(ARM.replace(old, new), "arm.asf")
    assert re.search("; restore the file$", str(error.value))


@pytest.mark.parametrize("name", MOTIONS)
def test_a_motion_is_refused(name):
    text, message = MOTIONS[name]
    with pytest.raises(ValueError, match=message):
        read_motion(text, read_skeleton(ARM, "arm.asf"), "arm.amc")
