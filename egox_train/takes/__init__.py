"""Files beside a take that training reads: head points of detectors, masks of what moves.

In: files in the forms that detectors write. Out: a take's head trajectory, masks per frame.
"""
