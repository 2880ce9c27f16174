'use strict';
const WORKER = /* WORKER */'';
const FIELDS = ['config', 'path', 'times', 'every', 'answer', 'headers', 'body'];
const EXAMPLE = {
  config: `tenant:
  from:
  - header: x-tenant
models:
- name: chat
  price: {input: 2.5, output: 10}
  sticky: [tenant]
  versions:
  - {name: stable, weight: 90}
  - {name: canary, weight: 10}
limits:
- name: tenant-tpm
  per: [tenant]
  tokens: 1000
  every: 1m
`,
  path: '/v1/chat/completions', times: '12', every: '1000', answer: '120',
  headers: 'x-tenant: acme',
  body: JSON.stringify({
    model: 'chat', max_tokens: 200,
    messages: [{ role: 'system', content: 'Answer in one sentence.' }, { role: 'user', content: 'What does a penstock do for a water mill? お願いします' }],
  }, null, 2),
};
const CALLERS = 1000;
// What a link has room for.
const LINK_MAX = 50000;
const $ = (id) => document.getElementById(id);

let worker, next = 0, weights = {};
const waiting = new Map();

function start() {
  worker = new Worker(URL.createObjectURL(new Blob([WORKER], { type: 'text/javascript' })));
  worker.onmessage = ({ data }) => {
    if (data.failed) return say('verdict', 'This browser cannot run the filters: ' + data.failed, 'bad');
    if (data.ready) return void (document.body.dataset.ready = Math.round(performance.now()));
    const heard = waiting.get(data.id);
    waiting.delete(data.id);
    if (heard) heard(data.answer);
  };
  worker.onerror = (event) => say('verdict', 'This browser cannot run the filters: ' + event.message, 'bad');
  const packed = $('packed');
  worker.postMessage({ load: JSON.parse(packed.textContent) });
  packed.remove();
}

// Of questions of one kind only the last one is worth an answer: one waits at most.
const busy = {}, late = {};
async function ask(question, show) {
  const kind = question.ask;
  if (busy[kind]) return void (late[kind] = [question, show]);
  busy[kind] = true;
  const answer = await new Promise((resolve) => {
    waiting.set(++next, resolve);
    worker.postMessage({ id: next, question });
  });
  busy[kind] = false;
  const newer = late[kind];
  delete late[kind];
  show(answer);
  if (newer) ask(...newer);
}

function make(name, text, attributes) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  return made;
}

function say(id, text, kind) {
  $(id).textContent = text;
  $(id).className = id === 'verdict' ? 'verdict ' + (kind || '') : kind || '';
}

function state() {
  return Object.fromEntries(FIELDS.map((id) => [id, $(id).value]));
}

function request() {
  return { path: $('path').value, headers: $('headers').value, body: $('body').value };
}

const number = (id) => Math.max(0, Math.floor(Number($(id).value)) || 0);

function changed() {
  ask({ ask: 'request', config: $('config').value, request: request(), times: number('times'), every: number('every'), answer: number('answer') }, played);
  split();
}

function split() {
  ask({ ask: 'split', config: $('config').value, request: callers(), callers: CALLERS, weights }, shares);
}

// Callers differ in what the headers have {n} in; without any, in the value of the first.
function callers() {
  const { path, headers, body } = request();
  const differ = /\{n\}/.test(headers + body) ? headers : headers.replace(/^([^:\n]+:).*/, '$1 caller-{n}');
  return { path, headers: differ, body };
}

function played(answer) {
  $('mistakes').replaceChildren();
  $('config').removeAttribute('aria-invalid');
  if (answer.error) return say('verdict', answer.error, 'bad');
  if (answer.mistakes.length) {
    $('config').setAttribute('aria-invalid', 'true');
    for (const { line, path, what } of answer.mistakes) {
      const item = make('li'), go = make('button', `line ${line}: ${path ? path + ': ' : ''}${what}`, { type: 'button' });
      go.onclick = () => select(line);
      item.append(go);
      $('mistakes').append(item);
    }
    return say('verdict', 'The filters would refuse this configuration.', 'bad');
  }
  const refused = answer.sent.filter((one) => one.status !== 200), first = refused[0];
  if (!first) say('verdict', `${answer.sent.length} of ${answer.sent.length} requests go on.`, 'good');
  else {
    const after = first.headers['retry-after'];
    say('verdict', `${answer.sent.length - refused.length} of ${answer.sent.length} requests go on. The one at ${first.at / 1000} s is refused with ${first.status}` +
      (first.limit ? ` by the limit ${first.limit}` : '') + (after ? `, and may come again after ${after} s` : '') + '.', 'bad');
  }
  $('notes').replaceChildren(...answer.notes.map((note) => make('p', note)));
  counted(answer.counted, answer.nanodollars);
  chart(answer.sent);
  table(answer.sent);
}

function select(line) {
  const lines = $('config').value.split('\n'), from = lines.slice(0, line - 1).join('\n').length + (line > 1 ? 1 : 0);
  $('config').focus();
  $('config').setSelectionRange(from, from + (lines[line - 1] || '').length);
}

function counted(counted, nanodollars) {
  $('costs').replaceChildren();
  $('texts').replaceChildren();
  if (!counted) return $('costs').append(make('p', 'The request was not counted.'));
  const sum = (texts) => texts.reduce((all, text) => all + text.tokens, 0);
  const framing = counted.messages.reduce((all, message) => all + message.framing, 0) + counted.reply;
  const texts = sum(counted.texts) + counted.messages.reduce((all, message) => all + sum(message.texts), 0);
  const rows = [['texts', texts], ['around messages, and before the reply', framing], ['tools, images and others', counted.rest],
    [`prompt for ${counted.model}${counted.estimated ? ', an estimate' : ''}`, counted.tokens]];
  const body = make('table');
  for (const [what, tokens] of rows) {
    const row = make('tr');
    row.append(make('td', tokens.toLocaleString('en'), { class: 'number' }), make('td', what));
    body.append(row);
  }
  body.append(make('tr'));
  body.lastChild.append(make('td', '$' + (nanodollars / 1e9).toPrecision(4), { class: 'number' }), make('td', 'with an answer of ' + number('answer') + ' tokens'));
  $('costs').append(body);
  let i = 0;
  const all = document.createDocumentFragment();
  const show = (title, list) => {
    all.append(make('div', title, { class: 'of' }));
    const line = make('div');
    for (const text of list) {
      for (const [piece, tokens] of text.pieces) {
        const span = make('span', piece, { class: i++ % 2 ? 'a' : 'b' });
        if (tokens > 1) span.append(make('sub', tokens, { title: tokens + ' tokens' }));
        line.append(span);
      }
      line.append(' ');
    }
    all.append(line);
  };
  counted.messages.forEach((message, n) => show(`messages[${n}]: ${message.tokens} tokens, ${message.framing} of them around its texts`, message.texts));
  if (counted.texts.length) show('not in a message: ' + sum(counted.texts) + ' tokens', counted.texts);
  if (counted.hidden) all.append(make('div', `${counted.hidden.toLocaleString('en')} more pieces are counted, and not shown`, { class: 'of' }));
  $('texts').append(all);
}

// What is left of the limit that binds, as the answers' headers say it.
function chart(sent) {
  $('chart').replaceChildren();
  const points = sent.map((one) => [one.at, Number(one.headers['x-ratelimit-remaining-tokens']), one.status]).filter((point) => point[1] >= 0);
  if (points.length < 2) return;
  const width = Math.max(1, points[points.length - 1][0]), height = Math.max(1, ...points.map((point) => point[1]));
  const at = ([x, y]) => `${(600 * x / width).toFixed(1)},${(100 - 96 * y / height).toFixed(1)}`;
  const label = `Tokens left after each request, from ${points[0][1]} to ${points[points.length - 1][1]}`;
  const svg = draw('svg', { viewBox: '-4 -4 608 110', preserveAspectRatio: 'none', role: 'img', 'aria-label': label });
  svg.append(draw('path', { d: 'M' + points.map(at).join('L') }));
  for (const point of points.filter((point) => point[2] !== 200)) {
    const [cx, cy] = at(point).split(',');
    svg.append(draw('circle', { cx, cy, r: 3 }));
  }
  $('chart').append(make('p', `Tokens left of the limit that binds, at each request (up to ${height.toLocaleString('en')}); refused ones are dots.`), svg);
}

function table(sent) {
  const body = make('table'), head = make('tr');
  for (const name of ['at', 'status', 'version', 'tokens left', 'told']) head.append(make('th', name, { scope: 'col' }));
  body.append(head);
  for (const one of sent.slice(0, 200)) {
    const row = make('tr');
    row.append(make('td', one.at / 1000 + ' s'), make('td', one.status, { class: one.status === 200 ? 'good' : 'bad' }), make('td', one.version || ''),
      make('td', one.headers['x-ratelimit-remaining-tokens'] || ''), make('td', one.message || ''));
    body.append(row);
  }
  $('sent').replaceChildren(body);
  if (sent.length > 200) $('sent').append(make('p', `and ${sent.length - 200} more`));
}

function shares(answer) {
  if (answer.error) return $('shares').replaceChildren(make('p', answer.error));
  const names = Object.keys(answer.versions);
  const known = [...$('weights').querySelectorAll('input')].map((input) => input.dataset.version);
  for (const name of names.filter((name) => name !== '(no version)' && !known.includes(name))) {
    const id = 'weight-' + name.replace(/[^A-Za-z0-9_-]/g, '_');
    const slider = make('input', undefined, { id, type: 'range', min: 0, max: 100, value: answer.versions[name] / 10, 'data-version': name });
    const label = make('label', `weight of ${name}: as configured`, { for: id });
    slider.oninput = () => {
      weights[name] = Number(slider.value);
      label.textContent = `weight of ${name}: ${slider.value}`;
      split();
    };
    $('weights').append(label, slider);
  }
  const rows = names.map((name) => {
    const row = make('div');
    row.append(make('div', `${name}: ${answer.versions[name]} of ${CALLERS} callers`), make('div', '', { class: 'bar' }));
    row.lastChild.style.width = answer.versions[name] / CALLERS * 100 + '%';
    return row;
  });
  if (answer.first) rows.push(make('p', 'The first of them gets ' + answer.first + '.'));
  if (answer.refused) rows.push(make('p', `${answer.refused} are refused: ${answer.message}`));
  $('shares').replaceChildren(...rows);
}

let trace = '';
function scale() {
  say('scaling', 'It is played…');
  const value = (id) => Number($(id).value);
  $('share-is').textContent = `Share of a replica: ${value('share')}`;
  ask({ ask: 'scale', trace, times: number('each'), coldStart: value('cold'), ttft: value('ttft'), utilization: value('share') }, scaled);
}

// Replicas over time, a line for each signal.
function scaled(answer) {
  $('replicas').replaceChildren();
  $('signals').replaceChildren();
  if (answer.error) return say('scaling', answer.error, 'bad');
  say('scaling', `${answer.requests.toLocaleString('en')} requests in ${Math.round(answer.seconds).toLocaleString('en')} s. ${answer.notes.join(' ')}`);
  const most = Math.max(...answer.signals.flatMap((signal) => signal.points.map((point) => point[1])));
  const end = Math.max(1, ...answer.signals.map((signal) => signal.points[signal.points.length - 1][0]));
  const svg = draw('svg', { viewBox: '-4 -4 608 110', preserveAspectRatio: 'none', role: 'img', 'aria-label': `Replicas over time, up to ${most}` });
  const body = make('table'), head = make('tr');
  for (const name of ['signal', 'in time', 'replica-seconds', 'most', 'thresholds']) head.append(make('th', name, { scope: 'col' }));
  body.append(head);
  answer.signals.forEach((signal, i) => {
    const x = (at) => (600 * at / end).toFixed(1), y = (replicas) => (100 - 96 * replicas / most).toFixed(1);
    const line = signal.points.map(([at, replicas], n) => n ? `H${x(at)}V${y(replicas)}` : `M${x(at)},${y(replicas)}`).join('');
    svg.append(draw('path', { d: line, class: 's' + i }));
    const row = make('tr');
    row.append(make('td', signal.name, { class: 's' + i }), make('td', (100 * signal.attainment).toFixed(1) + ' %'),
      make('td', Math.round(signal.replicaSeconds).toLocaleString('en')), make('td', Math.max(...signal.points.map((point) => point[1]))), make('td', signal.thresholds));
    body.append(row);
  });
  $('replicas').append(svg);
  $('signals').append(body);
}

function draw(name, attributes) {
  const drawn = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const key in attributes) drawn.setAttribute(key, attributes[key]);
  return drawn;
}

// The state stands in the fragment, which browsers send to nobody.
function save() {
  const kept = state();
  if (FIELDS.reduce((all, id) => all + kept[id].length, 0) > LINK_MAX) return;
  const text = encodeURIComponent(JSON.stringify(kept));
  if (text.length < LINK_MAX) history.replaceState(null, '', '#' + text);
}

function restore() {
  let kept = {};
  try {
    kept = JSON.parse(decodeURIComponent(location.hash.slice(1)) || '{}') || {};
  } catch { /* a link that was cut: the example */ }
  for (const id of FIELDS) $(id).value = typeof kept[id] === 'string' ? kept[id] : EXAMPLE[id];
}

function begin() {
  restore();
  start();
  let timer;
  for (const id of FIELDS) {
    $(id).addEventListener('input', () => {
      clearTimeout(timer);
      if (id === 'config') {
        weights = {};
        $('weights').replaceChildren();
      }
      timer = setTimeout(() => (save(), changed()), 150);
    });
  }
  $('link').onclick = async () => {
    save();
    const copied = await navigator.clipboard.writeText(location.href).then(() => true, () => false);
    say('linked', copied ? 'Copied.' : 'The address bar has it.');
  };
  let later;
  for (const id of ['each', 'cold', 'ttft', 'share']) {
    $(id).addEventListener('input', () => {
      clearTimeout(later);
      later = setTimeout(scale, 250);
    });
  }
  $('trace').onchange = async () => {
    trace = $('trace').files[0] ? await $('trace').files[0].text() : '';
    scale();
  };
  addEventListener('hashchange', () => (restore(), changed()));
  changed();
  scale();
}
