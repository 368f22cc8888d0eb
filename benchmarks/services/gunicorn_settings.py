# SPDX-License-Identifier: MIT
"""How gunicorn serves shop.py: workers forked from a preloaded application, replaced after a thousand requests."""

from __future__ import annotations

import gc

preload_app = True
workers = 3
max_requests = 1_000
max_requests_jitter = 300
timeout = 120
accesslog = None
loglevel = "warning"


def when_ready(_server: object) -> None:
    """What all workers share is not the collector's any more, as gunicorn's users do it."""
    gc.collect()
    gc.freeze()
