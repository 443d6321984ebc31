"""Write a bundle's page as a SCORM 1.2 package, which learning management systems such as Moodle and Canvas import.

The package has the page as one file: systems serve the scripts and WebAssembly of packages with media types of their
own, and a file of HTML needs no other file (decision 80).
"""

import io
import zipfile
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from edgedistill_export.web.single_file import WebFile, describe_file, single_page
from edgedistill_export.web.vendored import load_vendored
from edgedistill_export.web.writing import write_file
from edgedistill_serve.bundle.loading import Bundle

_MANIFEST = "imsmanifest.xml"
_PAGE = "index.html"
_TIME = (1980, 1, 1, 0, 0, 0)
"""The same bundle gives the same bytes."""
_IDENTIFIER = "edgedistill"
_LONGEST_TITLE = 200
"""Characters of a title that the schema allows."""


def write_scorm(bundle: Bundle, file: Path) -> WebFile:
    """Write the page of a bundle as a SCORM 1.2 package (content packaging 1.1.2, one sharable content object).

    Args:
        bundle: The bundle; the page uses the graph that it serves.
        file: The output file. An existing package of a page is replaced.

    Raises:
        WebFailed: The npm files are missing, the bundle cannot be scored in a browser, or the file is something other
            than such a package or cannot be written.
    """
    npm = load_vendored()
    licences = {name: content for name, content in npm.files.items() if Path(name).suffix in ("", ".txt")}
    files = {_PAGE: single_page(bundle, npm), **{f"licences/{name}": licences[name] for name in sorted(licences)}}
    files[_MANIFEST] = scorm_manifest(bundle.manifest.name, bundle.manifest.version, tuple(files))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in (_MANIFEST, *(name for name in files if name != _MANIFEST)):
            archive.writestr(zipfile.ZipInfo(name, _TIME), files[name], zipfile.ZIP_DEFLATED)
    write_file(file, packed.getvalue(), _is_package, "a package of a page")
    return describe_file(bundle, file)


def scorm_manifest(name: str, version: str, files: tuple[str, ...]) -> bytes:
    """Return `imsmanifest.xml`.

    Args:
        name: The bundle's name.
        version: The bundle's version.
        files: The paths of the package's other files; the first one is opened.
    """
    title = escape(f"{name}: score responses"[:_LONGEST_TITLE])
    listed = "\n".join(f"      <file href={quoteattr(path)}/>" for path in files)
    return f"""\
<?xml version="1.0" encoding="UTF-8"?>
<manifest identifier="{_IDENTIFIER}" version={quoteattr(version[:20])}
  xmlns="http://www.imsproject.org/xsd/imscp_rootv1p1p2"
  xmlns:adlcp="http://www.adlnet.org/xsd/adlcp_rootv1p2"
  xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xsi:schemaLocation="http://www.imsproject.org/xsd/imscp_rootv1p1p2 imscp_rootv1p1p2.xsd
                      http://www.adlnet.org/xsd/adlcp_rootv1p2 adlcp_rootv1p2.xsd">
  <metadata>
    <schema>ADL SCORM</schema>
    <schemaversion>1.2</schemaversion>
  </metadata>
  <organizations default="organization">
    <organization identifier="organization">
      <title>{title}</title>
      <item identifier="item" identifierref="page" isvisible="true">
        <title>{title}</title>
      </item>
    </organization>
  </organizations>
  <resources>
    <resource identifier="page" type="webcontent" adlcp:scormtype="sco" href={quoteattr(files[0])}>
{listed}
    </resource>
  </resources>
</manifest>
""".encode()


def _is_package(content: bytes) -> bool:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return f'identifier="{_IDENTIFIER}"'.encode() in archive.read(_MANIFEST)
    except (zipfile.BadZipFile, KeyError):
        return False
