"""How good a generated ego video is: one file a family of metrics, an evaluation over a manifest, its report.

Weight-free metrics need the ``evaluate`` extra (torchmetrics); those with weights take a path to them.
"""
