"""Put the page's modules into one classic script, which a page opened as a file can load and hand to its workers.

Browsers load no modules by `file://`. The modules of the page and of its npm files use few forms of `import` and
`export`; anything else is an error here, not in a browser.
"""

import posixpath
import re
from collections.abc import Mapping
from typing import NamedTuple

from edgedistill_export.errors import WebFailed

_IMPORT = re.compile(r'^import (?:\* as (?P<all>\w+)|\{(?P<names>[^}]*)\}) from "(?P<path>[^"]+)";$', re.MULTILINE)
_DECLARED = re.compile(r"^export (?=(?:async )?(?:function\*?|class|const) (\w+))", re.MULTILINE)
_LISTED = re.compile(r"\bexport ?\{([^}]*)\};?")
_DEFAULT = re.compile(r"\bexport default (\w+);")
_LEFT = re.compile(r"^(?:import|export)\b|\bexport ?[{*]|\bimport\.meta\b", re.MULTILINE)

_LOADER = """\
"use strict";
(() => {
const modules = new Map();
const loaded = new Map();
function load(path) {
  if (!loaded.has(path)) loaded.set(path, run(path));
  return loaded.get(path);
}
async function run(path) {
  const { needs, body } = modules.get(path);
  const found = [];
  for (const each of needs) found.push(await load(each));
  return body(...found);
}
"""
_START = """\
load(typeof document === "undefined" ? `page/${self.name}.mjs` : "page/page.mjs");
})();
"""


class _Module(NamedTuple):
    """A module as a function: the modules that it needs are its arguments, what it exports is its result."""

    needs: tuple[str, ...]
    body: str


def classic_script(modules: Mapping[str, str]) -> str:
    """Return one script with the modules; in a window it runs `page/page.mjs`, in a worker the module of its name.

    Args:
        modules: The source of each module by its path in the page's folder.

    Raises:
        WebFailed: A module uses a form of `import` or `export` that is not supported, imports a module that is
            missing or needs itself, or contains a text that ends a script in HTML.
    """
    parts = {path: _module(path, source) for path, source in modules.items()}
    _expect_order(parts)
    script = _LOADER + "".join(_definition(path, part) for path, part in sorted(parts.items())) + _START
    if found := re.search(r"</script|<!--", script, re.IGNORECASE):
        raise WebFailed(f"the page's scripts contain {found[0]!r}, which HTML reads as the end of a script")
    return script


def _module(path: str, source: str) -> _Module:
    needs: list[str] = []
    exported: list[str] = []

    def imported(match: re.Match[str]) -> str:
        needs.append(_resolved(path, match["path"]))
        name = f"$import{len(needs) - 1}"
        if match["all"]:
            return f"const {match['all']} = {name};"
        names = re.sub(r"(\w+) as (\w+)", r"\1: \2", match["names"])
        return f"const {{{names}}} = {name};"

    def declared(match: re.Match[str]) -> str:
        exported.append(match[1])
        return ""

    def listed(match: re.Match[str]) -> str:
        exported.extend(re.sub(r"(\S+) as (\S+)", r"\2: \1", each.strip()) for each in match[1].split(","))
        return ""

    def default(match: re.Match[str]) -> str:
        exported.append(f"default: {match[1]}")
        return ""

    body = _IMPORT.sub(imported, source)
    for pattern, replacement in ((_DECLARED, declared), (_LISTED, listed), (_DEFAULT, default)):
        body = pattern.sub(replacement, body)
    # Modules that are loaded later; onnxruntime's address of its own script is not used, as it gets all its files.
    body = re.sub(r'\bimport\("(\./[^"]+)"\)', lambda match: f'load("{_resolved(path, match[1])}")', body)
    body = re.sub(r"\bimport\(", "load(", body).replace("import.meta.url", '""')
    if left := _LEFT.search(body):
        line = body[left.start() :].splitlines()[0][:60]
        raise WebFailed(f"the script cannot be put into one file: {line!r} is not supported", where=path)
    return _Module(tuple(needs), f"{body.rstrip()}\nreturn {{ {', '.join(exported)} }};")


def _resolved(path: str, address: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), address))


def _definition(path: str, part: _Module) -> str:
    arguments = ", ".join(f"$import{place}" for place in range(len(part.needs)))
    needs = ", ".join(f'"{each}"' for each in part.needs)
    return f'modules.set("{path}", {{ needs: [{needs}], body: async ({arguments}) => {{\n{part.body}\n}} }});\n'


def _expect_order(parts: Mapping[str, _Module]) -> None:
    """Raise where a module is missing, or needs itself: it would wait for itself forever."""
    done: set[str] = set()

    def visit(path: str, above: tuple[str, ...]) -> None:
        if path in above or path not in parts:
            fault = "needs itself" if path in above else "is missing"
            raise WebFailed(f"the script {fault}, for {' → '.join((*above, path))}", where=path)
        if path not in done:
            for each in parts[path].needs:
                visit(each, (*above, path))
            done.add(path)

    for path in parts:
        visit(path, ())
