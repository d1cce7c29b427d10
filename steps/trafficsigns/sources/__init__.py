"""Reads data sets as they come: ``open_archive`` finds out which of the known layouts lies in a folder.

An archive answers two questions: what it holds (annotations, always whole) and the bytes of one image. Everything that
is decided about the data, the splits above all, is decided from what all instances of a job see alike.

``files`` names and bytes, in a zip or below a folder; ``official``, ``kaggle``, ``pickles`` (with ``unpickling``),
``folders`` and ``listed`` the layouts; ``detection`` tells them apart.
"""

from __future__ import annotations

from trafficsigns.sources.annotations import Annotation, Archive
from trafficsigns.sources.detection import open_archive

__all__ = ["Annotation", "Archive", "open_archive"]
