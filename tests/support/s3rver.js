// Starts s3rver, whose PUT answers before the object's file is written whole: here it waits.
"use strict";

const path = require("node:path");
const { stat } = require("node:fs/promises");

const program = process.argv[2];
const store = require(path.join(path.dirname(program), "..", "lib", "stores", "filesystem"));
const { putObject } = store.prototype;

store.prototype.putObject = async function (object) {
  const stored = await putObject.call(this, object);
  const file = this.getResourcePath(object.bucket, object.key, "object");
  while ((await stat(file).catch(() => ({ size: -1 }))).size !== stored.size) {
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  return stored;
};

process.argv.splice(1, 1);
require(program);
