"""The names that stereo hands out."""

from .boxes import mark_stereo as mark_stereo
from .pictures import StereoForm as StereoForm, stereo_pictures as stereo_pictures
from .right_eye import second_eye as second_eye
