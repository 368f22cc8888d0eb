# SPDX-License-Identifier: MIT
"""An object of a zone that is closed is freed.

raises: ValueError: this Zone is closed
"""

from misuse import Zone

zone, closed = Zone(), Zone()
closed.close()
zone.refuses(closed.deallocate, closed.objects[0], closed.layout)
