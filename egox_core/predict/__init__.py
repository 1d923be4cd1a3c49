"""An ego picture predicted from exo views without any depth: each ego ray is sampled in every view.

In: a :class:`ViewMoment` (exo pictures of one instant with their cameras) and ego cameras. Out:
the ego picture that
the views let expect, how sure it is, and its own expected depth. The idea of several views and a
predicted ego view is
Exo2EgoSyn's, which publishes no code; the form is ours.
"""

from .moment import ViewMoment, read_moment, write_moment

__all__ = ["ViewMoment", "read_moment", "write_moment"]
