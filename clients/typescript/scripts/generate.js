// Writes the types of every call from the service's OpenAPI document: generate.js DOCUMENT TARGET

import { writeFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import openapiTS, { astToString } from "openapi-typescript";
import ts from "typescript";

const [document, target] = process.argv.slice(2);
const blob = ts.factory.createTypeReferenceNode("Blob");

const types = await openapiTS(pathToFileURL(document), {
  alphabetize: true,
  rootTypes: true,
  rootTypesNoSchemaPrefix: true,
  // A file is a string of bytes to JSON Schema, and a Blob to whoever sends or receives it.
  transform: (schema) => (schema.format === "binary" ? blob : undefined),
});
const head = "// Written by `npm run generate` from docs/openapi.json. Do not edit.\n\n";
await writeFile(target, head + astToString(types));
