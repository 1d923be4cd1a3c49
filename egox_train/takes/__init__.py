"""Read files beside a take that training needs: head points from detectors, masks of moving pixels.

In: files in the forms that detectors write. Out: a take's head trajectory, masks per frame.
"""
