"""Test that every input format gives the true cameras and depth of a drawn take.

A cell is a way and a picture, with frames from 0, from 4 and every second one; the exo camera
stands in some and moves in others. Its right value was declared before the code gave it.
"""

import pytest

from .drawn_clip import FRAME_INDICES, FULLY_COMPARED_PICTURES, PICTURES
from .input_forms import INPUT_FORMS
from .results import check_cameras, check_later_results, check_second_eye

SECOND_EYE_FORM = "ego path: meta"
"""The form whose second eye is compared, which takes five times as long as all else that follows
from depth and path."""


def check_form(input_form: str, picture_name: str, turn: int, load_drawn_clip):
    """Check the cameras of a form with the frames that a picture has in one of three turns."""
    function, pose_tolerance, _ = INPUT_FORMS[input_form]
    picture_number = [*PICTURES].index(picture_name)
    frames_number = (picture_number + turn) % 3
    exo_moves = (picture_number + frames_number) % 2 == 0
    clip = load_drawn_clip(picture_name, [*FRAME_INDICES][frames_number], exo_moves)
    result = function(clip)
    check_cameras(clip, result, pose_tolerance)
    assert not result.path.other_exo(result.depth.exo)
    return clip, result


@pytest.mark.parametrize("picture_name", PICTURES)
@pytest.mark.parametrize("input_form", INPUT_FORMS)
def test_input_form_gives_the_drawn_camera(input_form, picture_name, load_drawn_clip):
    """Check a form's pictures in one turn, in which it has each choice of frames."""
    clip, result = check_form(input_form, picture_name, 2, load_drawn_clip)
    if INPUT_FORMS[input_form][2] and picture_name in FULLY_COMPARED_PICTURES:
        check_later_results(clip, result)
        if input_form == SECOND_EYE_FORM:
            check_second_eye(clip, result)


@pytest.mark.slow
@pytest.mark.parametrize("turn", [0, 1])
def test_input_forms_give_the_drawn_camera_with_other_frames(turn, load_drawn_clip):
    for input_form in INPUT_FORMS:
        for picture_name in PICTURES:
            check_form(input_form, picture_name, turn, load_drawn_clip)
