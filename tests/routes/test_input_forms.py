"""Test that every input format gives the true cameras and depth of a drawn take.

A cell is a way and a picture, with frames from 0, from 4 and every second one; the exo camera
stands in some and moves in others. Its right value was declared before the code gave it.
"""

import pytest

from .drawn_clip import FRAME_INDICES, PICTURES
from .input_forms import INPUT_FORMS
from .results import check_cameras, check_later_results, check_second_eye

SECOND_EYE_FORM = "ego path: meta"
"""The form whose second eye is compared, which takes five times as long as all else that follows
from depth and path."""


@pytest.mark.parametrize("picture_name", PICTURES)
@pytest.mark.parametrize("input_form", INPUT_FORMS)
def test_input_form_gives_the_drawn_camera(input_form, picture_name, load_drawn_clip):
    function, pose_tolerance, compares_later_results = INPUT_FORMS[input_form]
    picture_number = [*PICTURES].index(picture_name)
    for number, frames_name in enumerate(FRAME_INDICES):
        exo_moves = (number + picture_number) % 2 == 0
        clip = load_drawn_clip(picture_name, frames_name, exo_moves)
        result = function(clip)
        check_cameras(clip, result, pose_tolerance)
        assert not result.path.other_exo(result.depth.exo)
        if compares_later_results and number == picture_number:
            check_later_results(clip, result)
            if input_form == SECOND_EYE_FORM and picture_number == 0:
                check_second_eye(clip, result)
