"""Where pictures come from. Each source turns what is there into a DataFrame of :data:`gan_lib.corpus.items.COLUMNS`.

A source is a settings class with a method ``listing``; a new kind of corpus is one more module here and one more name in
:data:`Source`. No source decodes a picture.
"""

from __future__ import annotations

from gan_lib.corpus.sources.folder import FolderSource

Source = FolderSource
