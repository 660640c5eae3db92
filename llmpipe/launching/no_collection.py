"""Imported by the fork server before all else: no garbage is collected while it imports.

Imports make objects that stay, and looking through them again and again takes a tenth of their
time. `collection_again`, imported last, ends it.
"""

import gc

gc.disable()
