# ruff: noqa: RUF001
"""A project with feedback in German, Arabic, Thai and Chinese, of invented sentences, to try a multilingual backbone.

    python benchmarks/languages.py FOLDER
    edgedistill run FOLDER/project.yaml
    python benchmarks/languages.py FOLDER --summary docs/results/languages.json

The first line writes the project: sentences of an instructor, made of templates, and four codes; a row can repeat the
template of another row, but not its words. So the figures say that each language passes through every step, and how
large the bundle is; they say nothing about agreement on real responses. The last line reads the finished run, and
scores the test rows with the bundle: bytes, labels by language, tokens of the vocabulary, unknown texts.
"""

import argparse
import csv
import json
import random
from itertools import product
from pathlib import Path

from rich.console import Console

from edgedistill_serve import Bundle, Scorer

CONSOLE = Console(width=150)
CODES = ("praise", "hint", "question", "organization")
SENTENCES: dict[str, dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "de": {
        "praise": (
            ("Sehr gut, {} ist dir gelungen.", "Ich finde {} überzeugend.", "Toll, wie du {} beschrieben hast!"),
            ("deine Begründung", "der Vergleich", "die Skizze", "das Beispiel aus dem Alltag"),
        ),
        "hint": (
            ("Schau dir {} noch einmal an.", "Es fehlt noch {}.", "Versuche, {} genauer zu erklären."),
            ("den zweiten Schritt", "die Einheit", "der Übergang zum Schluss", "die Rechnung unten"),
        ),
        "question": (
            ("Warum hast du {} gewählt?", "Was meinst du mit {}?", "Wie würdest du {} prüfen?"),
            ("diese Formel", "diesen Versuch", "dem letzten Satz", "diese Annahme"),
        ),
        "organization": (
            ("Bitte gib {} bis Freitag ab.", "Wir besprechen {} in der nächsten Stunde.", "Lade {} im Kurs hoch."),
            ("das Heft", "die Hausaufgabe", "das Protokoll", "die Datei"),
        ),
    },
    "ar": {
        "praise": (
            ("أحسنت، {} ممتاز.", "أعجبني {} كثيرا.", "عمل رائع، {} واضح جدا!"),
            ("تفسيرك", "الرسم", "المثال", "الاستنتاج"),
        ),
        "hint": (
            ("راجع {} مرة أخرى.", "ما زال ينقصك {}.", "حاول أن تشرح {} بدقة أكبر."),
            ("الخطوة الثانية", "وحدة القياس", "السبب", "الحساب"),
        ),
        "question": (
            ("لماذا اخترت {}؟", "ماذا تقصد بـ {}؟", "كيف يمكنك أن تتحقق من {}؟"),
            ("هذه المعادلة", "هذه التجربة", "الجملة الأخيرة", "هذا الافتراض"),
        ),
        "organization": (
            ("سلم {} قبل يوم الجمعة من فضلك.", "سنناقش {} في الحصة القادمة.", "ارفع {} على صفحة المادة."),
            ("الدفتر", "الواجب", "التقرير", "الملف"),
        ),
    },
    "th": {
        "praise": (
            ("ดีมาก{}ของคุณชัดเจน", "ครูชอบ{}ของคุณมาก", "เยี่ยมเลย{}น่าสนใจจริงๆ"),
            ("คำอธิบาย", "ภาพวาด", "ตัวอย่าง", "ข้อสรุป"),
        ),
        "hint": (
            ("ลองดู{}อีกครั้ง", "ยังขาด{}อยู่", "ควรอธิบาย{}ให้ละเอียดกว่านี้"),
            ("ขั้นตอนที่สอง", "หน่วยวัด", "เหตุผล", "การคำนวณ"),
        ),
        "question": (
            ("ทำไมถึงเลือก{}", "คุณหมายถึงอะไรใน{}", "จะตรวจสอบ{}ได้อย่างไร"),
            ("สูตรนี้", "การทดลองนี้", "ประโยคสุดท้าย", "สมมติฐานนี้"),
        ),
        "organization": (
            ("ส่ง{}ภายในวันศุกร์", "เราจะคุยเรื่อง{}ในคาบหน้า", "อัปโหลด{}ในหน้าวิชาด้วย"),
            ("สมุด", "การบ้าน", "รายงาน", "ไฟล์"),
        ),
    },
    "zh": {
        "praise": (
            ("很好，你的{}很清楚。", "我很喜欢你的{}。", "你的{}非常有说服力！"),
            ("解释", "图画", "例子", "结论"),
        ),
        "hint": (
            ("请再看一遍{}。", "这里还缺少{}。", "试着把{}说得更具体一些。"),
            ("第二步", "单位", "原因", "计算过程"),
        ),
        "question": (
            ("你为什么选择{}？", "{}是什么意思？", "你怎么检验{}？"),
            ("这个公式", "这个实验", "最后一句话", "这个假设"),
        ),
        "organization": (
            ("请在星期五之前交{}。", "我们下节课讨论{}。", "把{}上传到课程页面。"),
            ("本子", "作业", "报告", "文件"),
        ),
    },
}
"""By language and code: templates, and what is put into them."""
ROWS_PER_CODE = 10
PROJECT = """\
name: feedback
task:
  kind: nominal
  labels:
    - {name: praise, definition: The instructor says what is good.}
    - {name: hint, definition: The instructor says what to change.}
    - {name: question, definition: The instructor asks about the work.}
    - {name: organization, definition: Dates and places of work that is due.}
  inputs: [response]
  redact: true
data:
  human: human.csv
  split: {train: 0.5, validation: 0.25, test: 0.25}
student:
  backbone: e5-multilingual
  vocabulary: cut
  preset: quick
evaluation:
  subgroups: [language]
export: {fp32_beside: false}
mix: {human: all, teacher: 0}
"""


def rows() -> list[dict[str, str]]:
    """The coded rows, in a fixed order."""
    draw = random.Random(15)  # noqa: S311
    found = []
    for language, codes in SENTENCES.items():
        for code, (templates, parts) in codes.items():
            texts = [template.format(part) for template, part in product(templates, parts)]
            found += [(language, code, text) for text in draw.sample(texts, ROWS_PER_CODE)]
    draw.shuffle(found)
    return [
        {"id": f"r{place}", "response": text, "language": language, "label": code}
        for place, (language, code, text) in enumerate(found)
    ]


def write(folder: Path) -> None:
    """Write the project."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "project.yaml").write_text(PROJECT, "utf-8")
    with (folder / "human.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, ["id", "response", "language", "label"])
        writer.writeheader()
        writer.writerows(rows())


def summarize(folder: Path) -> dict[str, object]:
    """Return figures of the finished run."""
    runs = sorted((folder / "runs").glob("*/run.json"))
    run = json.loads(runs[-1].read_text("utf-8"))
    bundle = runs[-1].parent / "bundle"
    with (runs[-1].parent / "test_scores.csv").open(encoding="utf-8", newline="") as stream:
        tested = {row["id"] for row in csv.DictReader(stream)}
    test = [row for row in rows() if row["id"] in tested]
    scores = Scorer(Bundle.load(bundle)).score([{"response": row["response"]} for row in test])
    by_language: dict[str, dict[str, int]] = {}
    for row, score in zip(test, scores, strict=True):
        of = by_language.setdefault(row["language"], {"test_rows": 0, "as_coded": 0, "unknown": 0})
        of["test_rows"] += 1
        of["as_coded"] += score.label == row["label"]
        of["unknown"] += score.unknown_share > 0
    return {
        "rows": len(rows()),
        "bundle_bytes": sum(file.stat().st_size for file in bundle.rglob("*") if file.is_file()),
        "served": run["stages"]["export"]["served"],
        "vocabulary": run["stages"]["train"]["vocabulary"],
        "steps": run["stages"]["export"]["steps"],
        "by_language": dict(sorted(by_language.items())),
    }


def main() -> None:
    """Write the project, or summarize its run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--summary", type=Path)
    given = parser.parse_args()
    if given.summary is None:
        write(given.folder)
        return
    found = summarize(given.folder)
    CONSOLE.print(found)
    given.summary.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
