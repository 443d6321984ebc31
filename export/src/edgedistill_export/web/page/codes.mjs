// A person's own codes of the rows for human review, and the file of them that `edgedistill review merge` reads.
import { at, isolated, made } from "./elements.mjs";
import { codeLines } from "./grading.mjs";
import { say } from "./language.mjs";
import { isMultilabel, NO_LABEL } from "./wording.mjs";

export class Codes {
  /** `page` describes the model. */
  constructor(page) {
    this.page = page;
    this.forget();
    at("save-codes").addEventListener("click", () => this.save());
    addEventListener("beforeunload", (event) => {
      if (!this.isUnsaved) return;
      event.preventDefault();
      event.returnValue = "unsaved"; // for older browsers
    });
  }

  forget() {
    Object.assign(this, { entries: [], rows: 0, file: "", codes: new Map(), isUnsaved: false });
    at("codes").hidden = true;
  }

  /** Begin to code `entries`, rows of `grade`, the first of `rows` rows for human review of a file. */
  start(entries, rows, file) {
    this.forget();
    Object.assign(this, { entries, rows, file });
  }

  render() {
    at("codes").hidden = this.entries.length === 0;
    at("coded").textContent = say("coded", { coded: this.codes.size, count: this.rows });
    at("save-codes").disabled = this.codes.size === 0;
  }

  /** The field for the code of a row. */
  field(entry) {
    return isMultilabel(this.page) ? this.checkboxes(entry) : this.select(entry);
  }

  select({ id, row }) {
    const select = made("select");
    select.setAttribute("aria-label", say("code_of_row", { row }));
    const labels = this.page.labels.map(({ name }) => new Option(name, name));
    select.append(new Option(say("not_coded"), ""), ...labels);
    select.value = this.codes.get(id) ?? "";
    select.addEventListener("change", () => this.set(id, select.value));
    return select;
  }

  checkboxes({ id, row }) {
    const group = made("fieldset", "codes");
    group.append(made("legend", "unseen", say("code_of_row", { row })));
    const given = (this.codes.get(id) ?? "").split(";");
    const boxes = [...this.page.labels.map(({ name }) => name), NO_LABEL].map((name) => {
      const box = made("input");
      Object.assign(box, { type: "checkbox", value: name, checked: given.includes(name) });
      const label = made("label");
      label.append(box, isolated(made("span", "", name === NO_LABEL ? say("no_label") : name)));
      group.append(label);
      return box;
    });
    group.addEventListener("change", ({ target }) => {
      // “None” and a label exclude each other.
      for (const box of boxes) if (target.checked && (box.value === NO_LABEL) !== (target.value === NO_LABEL)) box.checked = false;
      this.set(id, boxes.filter((box) => box.checked).map((box) => box.value).join(";"));
    });
    return group;
  }

  set(id, code) {
    if (code) this.codes.set(id, code);
    else this.codes.delete(id);
    this.isUnsaved = this.codes.size > 0;
    this.render();
  }

  save() {
    const link = made("a");
    link.href = URL.createObjectURL(new Blob(codeLines(this.entries, this.codes, this.page), { type: "text/csv" }));
    link.download = this.file.replace(/(\.[^.]*)?$/, "-codes.csv");
    link.click();
    // The browser reads the file after the click.
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    this.isUnsaved = false;
  }
}
