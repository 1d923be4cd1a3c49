"""Turn raw takes into training data: source layouts, clips, manifest, splits, captions and caches.

In: folders of Ego-Exo4D, of the released dataset or of takes (:class:`RawTake` is what each is read
into). Out: clip folders with a manifest (``data.prepare.prepare``), a cache of latents and geometry
(``data.cache_build.build_cache``) and its :class:`CacheReader`; object masks of clips.

Manifests need the ``train`` extra (pydantic), so what reads them is imported by its full path.
"""

from typing import TYPE_CHECKING

from ..lazy_names import lazy_names

if TYPE_CHECKING:
    from .cache_store import CacheReader
    from .object_masks import read_masks, write_masks
    from .raw_take import RawTake, RawView

__getattr__ = lazy_names(
    __name__,
    {
        "cache_store": ("CacheReader",),
        "object_masks": (
            "read_masks",
            "write_masks",
        ),
        "raw_take": (
            "RawTake",
            "RawView",
        ),
    },
)
