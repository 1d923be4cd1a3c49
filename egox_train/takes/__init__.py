"""Read files beside a take: head points from detectors, and masks of moving pixels.

In: files in the forms that detectors write. Out: a take's head trajectory, masks per frame.
"""
