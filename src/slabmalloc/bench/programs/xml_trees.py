# SPDX-License-Identifier: MIT
"""XML parsed into element trees, searched, changed, and written."""

from __future__ import annotations

from xml.etree import ElementTree

import records


def document(count: int) -> str:
    """Orders as XML."""
    root = ElementTree.Element("orders")
    for order in records.make(count):
        node = ElementTree.SubElement(root, "order", number=str(order["number"]), total=str(order["total"]))
        ElementTree.SubElement(node, "customer").text = order["customer"]["name"]
        for line in order["lines"]:
            part = ElementTree.SubElement(node, "line", article=line["article"])
            part.text = " ".join(line["tags"])
    return ElementTree.tostring(root, "unicode")


def run(scale: int) -> int:
    """80 orders per unit of scale, parsed four times."""
    text = document(80 * scale)
    total = 0
    for _ in range(4):
        root = ElementTree.fromstring(text)
        for node in root.iter("line"):
            node.set("length", str(len(node.text or "")))
        for order in root.findall("order")[::4]:
            root.remove(order)
        total += len(root) + len(ElementTree.tostring(root, "unicode"))
    return total
