"""Raw data to a training set: source layouts, clips, takes, manifest, splits, caches. Needs the ``train`` extra."""
