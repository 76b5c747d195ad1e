# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Report's script
---------------

Sorts and searches the tables of an HTML report, where its reader lets it. All that needs it
is made by it, so nothing is missing or dead without.
"""

import base64
import hashlib

__all__ = ("SCRIPT", "SCRIPT_SOURCE")

SCRIPT = """
"use strict";
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];
const PLACEHOLDER = "caller, kind or address", HINT = "The heads of columns sort.";
const rows = [...document.querySelectorAll("tbody tr")];
const isRest = row => /… and \\d+ more$/.test(row.textContent);

function value(cell) {
  const text = cell.textContent.trim();
  const found = /^([\\d.]+)(?:%| ([KMGT]iB|B))?$/.exec(text);
  return found ? found[1] * 1024 ** Math.max(UNITS.indexOf(found[2]), 0) : text;
}

function compare(a, b) {
  if (typeof a != typeof b) return typeof a == "number" ? -1 : 1;
  return (a > b) - (a < b);
}

function sort(body, heads, at) {
  const head = heads[at], was = head.getAttribute("aria-sort");
  const sign = (was ? was == "ascending" : head.className == "n") ? -1 : 1;
  for (const one of heads) one.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", sign < 0 ? "descending" : "ascending");
  const key = row => value(row.cells[at]);
  body.append(...[...body.rows].sort(
    (a, b) => isRest(a) - isRest(b) || sign * compare(key(a), key(b))));
}

for (const table of document.querySelectorAll("section:not(#summary) table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, at) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(table.tBodies[0], heads, at));
    head.append(button);
  });
}

function covers(range, address) {
  const found = /^(0x[0-9a-f]+)-(0x[0-9a-f]+)$/.exec(range);
  return found && BigInt(found[1]) <= address && address < BigInt(found[2]);
}

function search(typed, said) {
  const wanted = typed.trim().toLowerCase();
  const address = /^0x[0-9a-f]+$/.test(wanted) ? BigInt(wanted) : null;
  const found = one => one.textContent.toLowerCase().includes(wanted) || address != null
    && [...one.querySelectorAll("a")].some(link => covers(link.textContent, address));
  for (const row of rows) {
    row.hidden = !found(row);
    for (const inside of row.querySelectorAll("details"))
      inside.open = wanted && found(inside);
  }
  for (const section of document.querySelectorAll("section"))
    section.hidden = wanted && !section.querySelector("tbody tr:not([hidden])");
  const count = rows.filter(row => !row.hidden).length;
  said.textContent = wanted ? `${count} of ${rows.length} rows` : HINT;
}

const label = document.createElement("label"), input = document.createElement("input");
const said = document.createElement("output");
Object.assign(input, { type: "search", placeholder: PLACEHOLDER });
input.addEventListener("input", () => search(input.value, said));
said.textContent = HINT;
label.append("Search all tables ", input, " ", said);
label.className = "search";
document.querySelector("header").append(label);
"""

_SUM = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()

SCRIPT_SOURCE = f"'sha256-{_SUM}'"
"""What a Content-Security-Policy calls it: no other script may run."""
