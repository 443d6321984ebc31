"""SVG that may stand in the page itself: no style of its own, no name that another figure has, colours of the page."""

from xml.etree import ElementTree as ET

_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"
_DROPPED = {"font-family"}


def inline(drawn: str, name: str, colours: dict[str, str]) -> str:
    """Return what matplotlib drew as an element of an HTML page.

    The page's Content-Security-Policy allows no style attributes, so they become attributes of their own. Fonts are
    the page's.

    Args:
        drawn: An SVG document as matplotlib writes it.
        name: Of the figure; no other figure of the page has it.
        colours: By a colour as it was drawn, such as ``#010203``, what stands there instead, such as ``currentColor``.
    """
    root = ET.fromstring(drawn)  # noqa: S314  # our own drawing, not somebody's file
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
        _plain(element, name, colours)
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    root.set("stroke-linejoin", "round")
    # The text beside the figure says what it shows.
    root.set("aria-hidden", "true")
    return ET.tostring(root, encoding="unicode")


def _plain(element: ET.Element, name: str, colours: dict[str, str]) -> None:
    """Turn what stands in style attributes into attributes, and names into the figure's own."""
    given = dict(element.attrib)
    element.attrib.clear()
    style = given.pop("style", "")
    pairs = [part.partition(":") for part in style.split(";") if part.strip()]
    for key, value in [*given.items(), *((key.strip(), value.strip()) for key, _, value in pairs)]:
        if key not in _DROPPED:
            element.set("href" if key == _LINK else key, _own(key, colours.get(value, value), name))


def _own(key: str, value: str, name: str) -> str:
    """The value with every name that it defines or refers to made the figure's own."""
    if key == "id":
        return f"{name}-{value}"
    if key == _LINK:
        return value.replace("#", f"#{name}-", 1)
    return value.replace("url(#", f"url(#{name}-")
