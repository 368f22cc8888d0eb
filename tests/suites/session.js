// SPDX-License-Identifier: MIT
// For node: documents, buffers, compression, and workers that hand over what they made. Prints digests.
"use strict";
const crypto = require("crypto");
const zlib = require("zlib");
const { Worker, isMainThread, parentPort, workerData } = require("worker_threads");

const digest = (data) => crypto.createHash("sha256").update(data).digest("hex");

let state = 20260801;
const random = (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state % limit;
};

function documents(count) {
    const made = [];
    for (let i = 0; i < count; i++) {
        const tags = Array.from({ length: random(9) }, () => "tag" + random(1000));
        made.push({ id: i, name: "name ".repeat(1 + random(9)) + i, tags, nested: { depth: [[[i]], { value: i / 7 }] } });
    }
    return made;
}

function buffers(rounds) {
    const kept = new Map();
    const hash = crypto.createHash("sha1");
    for (let i = 0; i < rounds; i++) {
        const size = random(10) === 0 ? random(2000000) : random(9000);
        const buffer = Buffer.alloc(size, i & 255);
        kept.set(random(300), buffer);
        hash.update(buffer.subarray(0, 64)).update(Buffer.concat([buffer.subarray(0, 9), Buffer.from(String(i))]));
    }
    return hash.digest("hex");
}

function work(number) {
    state = number;
    const text = JSON.stringify(documents(20000));
    const packed = zlib.gzipSync(text, { level: 6 });
    const brotli = zlib.brotliCompressSync(text.slice(0, 200000), { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 5 } });
    const back = JSON.parse(zlib.gunzipSync(packed).toString());
    const bytes = new Uint8Array(3000000).fill(number);
    const told = [back.length, digest(text), packed.length, digest(zlib.brotliDecompressSync(brotli)), buffers(1500)];
    return { number, told, bytes };
}

function inWorkers(count) {
    const all = [];
    for (let number = 1; number <= count; number++) {
        all.push(new Promise((resolve, reject) => {
            const worker = new Worker(__filename, { workerData: number });
            worker.on("message", resolve);
            worker.on("error", reject);
        }));
    }
    return Promise.all(all);
}

async function main() {
    console.log("documents", digest(JSON.stringify(documents(50000))));
    console.log("buffers", buffers(4000));
    for (let round = 0; round < 3; round++) {
        for (const { number, told, bytes } of await inWorkers(4)) {
            console.log(round, number, told.join(" "), digest(bytes));
        }
        if (global.gc) global.gc();
    }
    const signed = crypto.createHmac("sha512", "key").update(crypto.pbkdf2Sync("a", "b", 20000, 512, "sha256"));
    console.log("crypto", signed.digest("hex"));
    const shared = new Map();
    for (let i = 0; i < 300000; i++) shared.set("key" + random(50000), { i, text: "x".repeat(i % 40) });
    console.log("map", shared.size, digest(JSON.stringify([...shared].slice(0, 5000))));
}

if (isMainThread) {
    main();
} else {
    const made = work(workerData);
    parentPort.postMessage(made, [made.bytes.buffer]);
}
