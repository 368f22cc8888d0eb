# SPDX-License-Identifier: MIT
"""What is seen of the allocator (floor 6): text and JSON, one file per report."""
