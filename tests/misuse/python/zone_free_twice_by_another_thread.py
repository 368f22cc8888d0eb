# SPDX-License-Identifier: MIT
"""Freed by the thread whose zone it is, and again by another.

raises: DoubleFree: ADDRESS is free already: slot 3 of the page at PAGE
"""

import threading

from misuse import Zone, tell

zone = Zone()
tell(ADDRESS=zone.freed, PAGE=zone.page.address)
thread = threading.Thread(target=zone.refuses, args=[zone.deallocate, zone.freed, zone.layout])
thread.start()
thread.join()
