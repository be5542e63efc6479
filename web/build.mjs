// Builds the page into the Python package, so that nobody needs node to serve it.
import { build } from "esbuild";
import { copyFile, mkdir } from "node:fs/promises";

const out = new URL("../src/duplex/server/page/", import.meta.url).pathname;
await mkdir(out, { recursive: true });
await build({
  entryPoints: ["src/main.ts", "src/capture-worklet.ts", "src/playback-worklet.ts"],
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  outdir: out,
  legalComments: "none",
});
for (const file of ["index.html", "style.css", "icon.svg"]) {
  await copyFile(new URL(`src/${file}`, import.meta.url), out + file);
}
