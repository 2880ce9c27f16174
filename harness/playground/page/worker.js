// Answers questions with the module: a WASI command that reads a question and writes its answer. Each gets an instance of its own, into whose
// memory the tables are put that it counts with; they are made here, of the vocabularies.
'use strict';
// More than anybody reads; the rest is counted, and said to be there.
const PIECES_MAX = 5000;
let loaded;

// The part of WASI preview 1 that reads standard input and writes standard output.
async function run(module, input, tables) {
  let memory, read = 0;
  const written = [];
  const view = () => new DataView(memory.buffer);
  const slices = (at, count) => Array.from({ length: count }, (_, i) => {
    const data = view();
    return new Uint8Array(memory.buffer, data.getUint32(at + 8 * i, true), data.getUint32(at + 8 * i + 4, true));
  });
  const done = (at, size) => (view().setUint32(at, size, true), 0);
  const empty = (a, b) => done(a, 0) || done(b, 0);
  const known = {
    fd_read(fd, at, count, size) {
      const before = read;
      for (const slice of slices(at, count)) {
        const part = input.subarray(read, read + slice.length);
        slice.set(part);
        read += part.length;
      }
      return done(size, read - before);
    },
    fd_write(fd, at, count, size) {
      let all = 0;
      for (const slice of slices(at, count)) {
        if (fd === 1) written.push(slice.slice());
        all += slice.length;
      }
      return done(size, all);
    },
    random_get(at, size) {
      new Uint8Array(memory.buffer, at, size).fill(7);
      return 0;
    },
    environ_sizes_get: empty,
    args_sizes_get: empty,
    environ_get: () => 0,
    args_get: () => 0,
    proc_exit(code) { throw new Error('the module ended with ' + code); },
  };
  const other = () => 52; // ENOSYS
  const wasi = new Proxy(known, { get: (all, name) => all[name] || other });
  const imports = {};
  for (const { module: from, name } of WebAssembly.Module.imports(module)) (imports[from] = imports[from] || {})[name] = wasi[name];
  const instance = await WebAssembly.instantiate(module, imports);
  memory = instance.exports.memory;
  for (const { at, table } of tables) new Uint8Array(memory.buffer, at, table.length).set(table);
  instance.exports._start();
  return new Blob(written);
}

async function unpacked(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'))).arrayBuffer();
}

async function load({ module, generator, tables }) {
  const [compiled, maker] = await Promise.all([module, generator].map(async (packed) => WebAssembly.compile(await unpacked(packed))));
  const made = [];
  for (const { at, packed } of tables) {
    const table = await run(maker, new Uint8Array(await unpacked(packed)), []);
    made.push({ at, table: new Uint8Array(await table.arrayBuffer()) });
  }
  return { module: compiled, tables: made };
}

async function ask(question) {
  const { module, tables } = await loaded;
  const written = await run(module, new TextEncoder().encode(JSON.stringify(question)), tables);
  const answer = JSON.parse(await written.text());
  if (answer.counted) shorten(answer.counted);
  return answer;
}

// The page shows the first pieces, and is told how many more there are.
function shorten(counted) {
  let left = PIECES_MAX;
  counted.hidden = 0;
  for (const text of [...counted.messages.flatMap((message) => message.texts), ...counted.texts]) {
    counted.hidden += Math.max(0, text.pieces.length - left);
    text.pieces = text.pieces.slice(0, left);
    left -= text.pieces.length;
  }
}

self.onmessage = async ({ data }) => {
  if (data.load) {
    loaded = load(data.load);
    loaded.then(() => self.postMessage({ ready: true }), (error) => self.postMessage({ failed: String(error.message || error) }));
    return;
  }
  try {
    self.postMessage({ id: data.id, answer: await ask(data.question) });
  } catch (error) {
    self.postMessage({ id: data.id, answer: { error: String(error.message || error) } });
  }
};
