"""Pictures for people: of depth, coverage, attention and alignment, and many pictures in one.

In: maps and videos as tensors, or finished pictures with their labels. Out: pictures [.., H, W, 3] (float 0...1, or
uint8 where they are drawn for a file), JPEG sheets for the page, legends as plain data.
"""

from .align_plot import plot_report
from .grid import labelled_grid
from .maps import coverage_preview, depth_preview
from .sheets import Sheets, make_sheets
