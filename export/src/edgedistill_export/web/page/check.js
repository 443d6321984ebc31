// Says why the page cannot start: in an old browser, in a file that was not copied whole, opened as a file without the
// scripts inside. For old browsers this script is written in ECMAScript 5 and has texts of its own.
(function () {
  "use strict";
  var OLDEST = "Chrome 94, Edge 94, Firefox 114, Safari 16.4";
  var TEXTS = {
    en: {
      old: "This browser is too old for this page: it lacks {missing}. Update it, or open the page in a newer browser: at least {oldest}.",
      file: "Browsers do not let a page load its model when it is opened as a file. Write the page as one file, which opens with a double click: edgedistill web BUNDLE --single page.html. Or start a small server in this folder, python -m http.server --bind 127.0.0.1 8000, and open http://127.0.0.1:8000/. The server only provides the files of this folder; no response is sent to it.",
      part: "This file was not copied whole: its end is missing. Copy it again.",
      script: "The page's scripts did not start ({error}). Update the browser, copy the page again, or let the server send .mjs files as text/javascript."
    },
    es: {
      old: "Este navegador es demasiado antiguo para esta página: le falta {missing}. Actualícelo o abra la página en un navegador más nuevo: como mínimo {oldest}.",
      file: "Los navegadores no permiten que una página cargue su modelo cuando se abre como archivo. Genere la página como un solo archivo, que se abre con doble clic: edgedistill web BUNDLE --single page.html. O inicie un pequeño servidor en esta carpeta, python -m http.server --bind 127.0.0.1 8000, y abra http://127.0.0.1:8000/. El servidor solo entrega los archivos de esta carpeta; no recibe ninguna respuesta.",
      part: "Este archivo no se ha copiado entero: falta el final. Cópielo de nuevo.",
      script: "Los programas de la página no se han iniciado ({error}). Actualice el navegador, copie la página de nuevo o haga que el servidor envíe los archivos .mjs como text/javascript."
    },
    de: {
      old: "Dieser Browser ist zu alt für diese Seite: Ihm fehlt {missing}. Aktualisieren Sie ihn, oder öffnen Sie die Seite in einem neueren Browser: mindestens {oldest}.",
      file: "Browser erlauben es einer Seite nicht, ihr Modell zu laden, wenn sie als Datei geöffnet wird. Erzeugen Sie die Seite als eine einzige Datei, die sich per Doppelklick öffnet: edgedistill web BUNDLE --single page.html. Oder starten Sie in diesem Ordner einen kleinen Server, python -m http.server --bind 127.0.0.1 8000, und öffnen Sie http://127.0.0.1:8000/. Der Server stellt nur die Dateien dieses Ordners bereit; er erhält keine Antwort.",
      part: "Diese Datei wurde nicht vollständig kopiert: Ihr Ende fehlt. Kopieren Sie sie noch einmal.",
      script: "Die Skripte der Seite sind nicht gestartet ({error}). Aktualisieren Sie den Browser, kopieren Sie die Seite noch einmal, oder lassen Sie den Server .mjs-Dateien als text/javascript senden."
    },
    ar: {
      old: "هذا المتصفح أقدم من أن يشغّل هذه الصفحة: ينقصه {missing}. حدّثه، أو افتح الصفحة في متصفح أحدث: على الأقل {oldest}.",
      file: "لا تسمح المتصفحات للصفحة بتحميل نموذجها عندما تُفتح كملف. أنشئ الصفحة في ملف واحد يُفتح بنقرة مزدوجة: \u2066edgedistill web BUNDLE --single page.html\u2069. أو شغّل خادمًا صغيرًا في هذا المجلد، \u2066python -m http.server --bind 127.0.0.1 8000\u2069، وافتح http://127.0.0.1:8000/. لا يقدّم الخادم إلا ملفات هذا المجلد، ولا تُرسل إليه أي إجابة.",
      part: "لم يُنسخ هذا الملف كاملًا: آخره مفقود. انسخه من جديد.",
      script: "لم تعمل برامج الصفحة ({error}). حدّث المتصفح، أو انسخ الصفحة من جديد، أو اجعل الخادم يرسل ملفات .mjs بالنوع text/javascript."
    }
  };

  /** What the page needs and this browser lacks, by the name that its makers use. */
  function missing() {
    var lacking = [];
    function need(name, found) {
      if (!found) lacking.push(name);
    }
    need("WebAssembly SIMD", hasSimd());
    need("DecompressionStream", typeof DecompressionStream === "function");
    need("Web Workers", typeof Worker === "function");
    need("Array.prototype.at", typeof Array.prototype.at === "function");
    need("Object.hasOwn", typeof Object.hasOwn === "function");
    need("Intl.PluralRules", typeof Intl === "object" && typeof Intl.PluralRules === "function");
    need("RegExp (?<=…)", isPattern("(?<=a)\\p{L}"));
    return lacking;
  }

  function hasSimd() {
    // A function that makes a vector and takes it apart.
    var bytes = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];
    return typeof WebAssembly === "object" && WebAssembly.validate(new Uint8Array(bytes));
  }

  function isPattern(source) {
    try {
      return Boolean(new RegExp(source, "u"));
    } catch (error) {
      return false;
    }
  }

  function language() {
    var wanted = [window.location.hash.slice(1)].concat(navigator.languages || [navigator.language || "en"]);
    for (var at = 0; at < wanted.length; at += 1) {
      var code = String(wanted[at]).split("-")[0];
      if (Object.prototype.hasOwnProperty.call(TEXTS, code)) return code;
    }
    return "en";
  }

  function show(key, values) {
    var code = language();
    var place = document.getElementById("unopened");
    if (!place || !place.hidden) return;
    var text = TEXTS[code][key].replace(/\{(\w+)\}/g, function (_, name) {
      return values[name];
    });
    place.lang = code;
    place.dir = code === "ar" ? "rtl" : "ltr";
    place.textContent = text;
    place.hidden = false;
  }

  function check() {
    var root = document.documentElement;
    var lacking = missing();
    var isOneFile = root.hasAttribute("data-one-file");
    if (lacking.length) {
      root.setAttribute("data-refused", "true");
      show("old", { missing: lacking.join(", "), oldest: OLDEST });
    } else if (isOneFile && !document.getElementById("end")) {
      root.setAttribute("data-refused", "true");
      show("part", {});
    } else if (!isOneFile && window.location.protocol === "file:") {
      show("file", {});
    } else if (failure && !root.hasAttribute("data-started")) {
      show("script", { error: failure });
    }
  }

  var failure = "";
  window.addEventListener("error", function (event) {
    failure = failure || event.message || "load";
    if (document.readyState !== "loading") check();
  }, true);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", check);
  else check();
})();
