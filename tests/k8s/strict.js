/*
 * Are these documents what Kubernetes takes? Unknown keys and wrong types are found by the TypeScript compiler, which
 * holds each document, as a literal, against the type of its kind; numbers, patterns and what is missing by the
 * package's own validators. Usage: node strict.js DOCUMENTS.json OUT.ts   (in a folder with node_modules)
 * DOCUMENTS.json: [{"name": "values-small: Deployment x", "document": {...}}, ...]
 */
"use strict";
const fs = require("fs");
const path = require("path");
const ts = require("typescript");

const top = process.cwd();
const [documentsFile, out] = process.argv.slice(2);
const documents = JSON.parse(fs.readFileSync(documentsFile, "utf8"));
const faults = [];

/* The module of a kind: "apps/v1" Deployment lies in kubernetes-models/apps/v1/Deployment. */
function moduleOf(d) {
    const [group, version] = d.apiVersion.includes("/") ? d.apiVersion.split("/") : ["", d.apiVersion];
    const packages = ["kubernetes-models", "@kubernetes-models/prometheus-operator"];
    for (const p of packages)
        for (const folder of [group, group.split(".")[0]]) {
            const name = path.posix.join(p, folder, version, d.kind);
            if (fs.existsSync(path.join(top, "node_modules", name + ".js")))
                return name;
        }
    return null;
}

const lines = [];
const names = [];
documents.forEach(({ name, document }, i) => {
    const module = moduleOf(document);
    if (module === null) {
        faults.push(`${name}: there is no such kind: ${document.apiVersion} ${document.kind}`);
        return;
    }
    const text = JSON.stringify(document, null, 1).split("\n");
    lines.push(`import { I${document.kind} as T${i} } from "${module}";`);
    names.push(name);
    lines.push(`export const d${i}: T${i} =`);
    names.push(name);
    for (const line of text) {
        lines.push(line);
        names.push(name);
    }
    const Model = require(path.join(top, "node_modules", module))[document.kind];
    try {
        new Model(document).validate();
    } catch (e) {
        faults.push(`${name}: ${e.message}`);
    }
});
fs.writeFileSync(out, lines.join("\n") + "\n");

const program = ts.createProgram([path.resolve(out)], {
    strict: true, noEmit: true, skipLibCheck: true, types: [], lib: ["lib.es2020.d.ts"], target: ts.ScriptTarget.ES2020,
    module: ts.ModuleKind.CommonJS, moduleResolution: ts.ModuleResolutionKind.Node10, ignoreDeprecations: "5.0",
});
for (const d of ts.getPreEmitDiagnostics(program)) {
    const words = ts.flattenDiagnosticMessageText(d.messageText, "; ");
    if (d.file === undefined) {
        faults.push(words);
        continue;
    }
    const at = d.file.getLineAndCharacterOfPosition(d.start).line;
    faults.push(`${names[at] || d.file.fileName}: ${(lines[at] || "").trim()}: ${words.slice(0, 300)}`);
}
for (const f of faults)
    console.log(f);
process.exitCode = faults.length > 0 ? 1 : 0;
