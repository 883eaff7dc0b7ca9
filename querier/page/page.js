/*
 * The page of a querier: asks what anybody may ask of the API, and draws it. Nothing from elsewhere is
 * loaded. Labels and values are whatever was pushed: they only ever become text, never markup.
 */
'use strict';

const $ = id => document.getElementById(id);
const RANGES = [['15m', 900], ['1h', 3600], ['6h', 21600], ['1d', 86400], ['7d', 604800], ['30d', 2592000]];
const COLORS = ['#3b82f6', '#ef6c00', '#2e9e5b', '#c2185b', '#7e57c2', '#00838f', '#9e7b00', '#d84343', '#5d7a8c', '#6d9e00'];
const DRAWN_MAX = 200, ROWS_MAX = 500, OFFERS_MAX = 100;
let range = 3600, series = [], span = null, alone = -1, names = null, turn = 0;

/* ---- asking ---- */

async function api(path, parameters) {
  const headers = {};
  if ($('tenant').value) headers['X-Scope-OrgID'] = $('tenant').value;
  if ($('key').value) headers.Authorization = 'Bearer ' + $('key').value;
  const query = parameters ? '?' + new URLSearchParams(parameters) : '';
  const answer = await fetch('api/v1/' + path + query, { headers });
  const text = await answer.text();
  let body;
  try { body = JSON.parse(text); } catch { body = { status: 'error', error: text.trim() || answer.statusText }; }
  if (body.status !== 'success') {
    const id = answer.headers.get('X-Request-Id');
    throw new Error(`${answer.status} ${body.error || ''}${id ? `  (request ${id})` : ''}`);
  }
  return body;
}

function say(kind, lines) {
  $('words').replaceChildren(...lines.map(line => {
    const one = document.createElement('div');
    one.className = kind;
    one.textContent = line;
    return one;
  }));
}

const label = metric => {
  const { __name__: name = '', ...rest } = metric;
  const pairs = Object.entries(rest).map(([k, v]) => `${k}=${JSON.stringify(v)}`);
  return name + (pairs.length || !name ? `{${pairs.join(', ')}}` : '');
};

function until() {
  const text = $('until').value.trim();
  if (!text) return Date.now() / 1000;
  const ms = /^\d+(\.\d+)?$/.test(text) ? text * 1000 : Date.parse(text);
  if (Number.isNaN(ms)) throw new Error(`until: ${text} is no time (try 2026-11-29 12:00)`);
  return ms / 1000;
}

async function run() {
  const query = $('query').value.trim(), mine = ++turn;
  if (!query) return;
  offer([]);
  remember();
  try {
    const end = until(), step = Math.max(1, Math.round(range / 300)), begin = performance.now();
    const [graph, now] = await Promise.allSettled([
      api('query_range', { query, start: end - range, end, step }),
      api('query', { query, time: end, limit: ROWS_MAX + 1 }),
    ]);
    if (mine !== turn) return;                      /* another was asked meanwhile */
    if (now.status === 'rejected') throw now.reason;
    const drawn = graph.status === 'fulfilled' && now.value.data.resultType !== 'string';
    const notes = [...new Set([...(now.value.warnings || []), ...(drawn && graph.value.warnings || []),
      ...(now.value.infos || [])])];
    series = drawn ? graph.value.data.result.map(s => ({ name: label(s.metric), points: (s.values || []).map(([t, v]) => [t, +v]) })) : [];
    span = [end - range, end, step];
    alone = -1;
    $('graph').hidden = series.length === 0;
    $('now').hidden = false;
    stale(false);
    draw();
    legend();
    table(now.value.data);
    const took = Math.round(performance.now() - begin);
    say('', [`${series.length} series, ${took} ms`]);
    if (notes.length) say('warn', notes);
    else if (graph.status === 'rejected' && now.value.data.resultType === 'matrix') say('', ['a range: the table has it']);
    else if (graph.status === 'rejected') say('warn', [graph.reason.message]);
    else if (!series.length && now.value.data.result.length === 0) say('', ['nothing matches, in this range, of this tenant']);
  } catch (error) {
    if (mine !== turn) return;
    say('bad', [error.message]);
    stale(true);
  }
}

/* What is still there is of the question before. */
function stale(is) {
  $('tip').hidden = true;
  for (const id of ['graph', 'now']) $(id).classList.toggle('stale', is);
}

/* ---- the graph ---- */

const nice = step => {
  const power = 10 ** Math.floor(Math.log10(step)), n = step / power;
  return (n <= 1 ? 1 : n <= 2 ? 2 : n <= 5 ? 5 : 10) * power;
};
const short = v => {
  if (!Number.isFinite(v)) return String(v);
  const size = Math.abs(v);
  for (const [unit, by] of [['T', 1e12], ['G', 1e9], ['M', 1e6], ['k', 1e3]])
    if (size >= by) return +(v / by).toPrecision(4) + unit;
  return size && size < 1e-3 ? v.toExponential(2) : String(+v.toPrecision(4));
};
const two = n => String(n).padStart(2, '0');
const clock = (t, long) => {
  const d = new Date(t * 1000), day = `${two(d.getMonth() + 1)}-${two(d.getDate())}`, hour = `${two(d.getHours())}:${two(d.getMinutes())}`;
  return long ? `${d.getFullYear()}-${day} ${hour}:${two(d.getSeconds())}` : range > 172800 ? day : range > 43200 ? `${day} ${hour}` : hour;
};
const shown = () => series.slice(0, DRAWN_MAX).map((s, i) => [s, i]).filter(([, i]) => alone < 0 || i === alone);

let scale = null;
function draw() {
  const canvas = $('canvas'), ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = 340, c = canvas.getContext('2d');
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  if (!span || !series.length) { scale = null; return; }
  let low = Infinity, high = -Infinity;
  for (const [s] of shown())
    for (const [, v] of s.points)
      if (Number.isFinite(v)) { low = Math.min(low, v); high = Math.max(high, v); }
  if (low > high) { low = 0; high = 1; }
  if (low === high) { const by = Math.abs(low) / 10 || 1; low -= by; high += by; }
  if (low > 0 && low < (high - low)) low = 0;
  const left = 62, right = 8, top = 10, bottom = 24, [from, to, step] = span;
  const x = t => left + (t - from) / (to - from) * (width - left - right), y = v => height - bottom - (v - low) / (high - low) * (height - top - bottom);
  const style = getComputedStyle(document.body);
  c.font = '11px system-ui, sans-serif';
  c.fillStyle = style.getPropertyValue('--soft');
  c.strokeStyle = style.getPropertyValue('--line');
  c.lineWidth = 1;
  const rows = nice((high - low) / 8);
  c.textAlign = 'right';
  c.textBaseline = 'middle';
  for (let v = Math.ceil(low / rows) * rows; v <= high + rows * 1e-9; v += rows) {
    c.beginPath();
    c.moveTo(left, y(v));
    c.lineTo(width - right, y(v));
    c.stroke();
    c.fillText(short(Math.abs(v) < rows * 1e-9 ? 0 : v), left - 6, y(v));
  }
  const steps = [60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 432000], columns = steps.find(s => s >= (to - from) / 8) || 432000;
  const zone = new Date(from * 1000).getTimezoneOffset() * 60;
  c.textAlign = 'center';
  for (let t = Math.ceil((from - zone) / columns) * columns + zone; t <= to; t += columns)
    c.fillText(clock(t), x(t), height - 10);
  c.lineWidth = 1.5;
  for (const [s, i] of shown()) {
    c.strokeStyle = c.fillStyle = COLORS[i % COLORS.length];
    c.beginPath();
    let last = -Infinity, drawn = 0;
    s.points.forEach(([t, v], k) => {
      if (!Number.isFinite(v)) { last = -Infinity; return; }
      const next = s.points[k + 1];
      if (t - last > step * 1.5) {
        c.moveTo(x(t), y(v));
        if (!next || next[0] - t > step * 1.5) c.fillRect(x(t) - 1.5, y(v) - 1.5, 3, 3);      /* one by itself */
      } else c.lineTo(x(t), y(v));
      last = t;
      drawn++;
    });
    if (drawn) c.stroke();
  }
  scale = { x, y, left, right, width };
}

function legend() {
  const lines = series.slice(0, DRAWN_MAX).map((s, i) => {
    const line = document.createElement('div'), mark = document.createElement('i');
    mark.style.background = COLORS[i % COLORS.length];
    line.append(mark, s.name);
    line.classList.toggle('off', alone >= 0 && alone !== i);
    line.onclick = () => { alone = alone === i ? -1 : i; draw(); legend(); };
    return line;
  });
  if (series.length > DRAWN_MAX) lines.push(`and ${series.length - DRAWN_MAX} more, which are not drawn`);
  $('legend').replaceChildren(...lines);
}

$('canvas').onmousemove = event => {
  if (!scale) return;
  const t = span[0] + (event.offsetX - scale.left) / (scale.width - scale.left - scale.right) * (span[1] - span[0]);
  let best = null;
  for (const [s, i] of shown())
    for (const [at, v] of s.points) {
      if (Math.abs(at - t) > span[2]) continue;
      const far = Math.hypot(scale.x(at) - event.offsetX, (scale.y(v) - event.offsetY) / 2);
      if (!best || far < best.far) best = { far, s, i, at, v };
    }
  const tip = $('tip');
  tip.hidden = !best || best.far > 60;
  if (tip.hidden) return;
  tip.textContent = `${clock(best.at, true)}   ${best.v}   ${best.s.name}`;
  tip.style.borderColor = COLORS[best.i % COLORS.length];
  tip.style.left = Math.min(event.offsetX + 14, scale.width - 300) + 'px';
  tip.style.top = event.offsetY + 14 + 'px';
};
$('canvas').onmouseleave = () => { $('tip').hidden = true; };

/* ---- tables ---- */

function rows(where, pairs, act) {
  const body = document.createElement('table');
  for (const [name, value] of pairs) {
    const row = body.insertRow(), first = row.insertCell(), second = row.insertCell();
    first.textContent = name;
    second.textContent = value;
    if (act) { first.className = 'link'; first.onclick = () => act(name); }
  }
  where.replaceChildren(body);
}

function table(data) {
  const value = s => s.value ? s.value[1] : s.histogram ? `count ${s.histogram[1].count}, sum ${s.histogram[1].sum}`
    : `${(s.values || s.histograms || []).length} samples`;
  const pairs = data.resultType === 'scalar' || data.resultType === 'string' ? [[data.resultType, data.result[1]]]
    : data.result.slice(0, ROWS_MAX).map(s => [label(s.metric), value(s)]);
  rows($('table'), pairs);
  if (data.result.length > ROWS_MAX) $('table').append(`and more than these ${ROWS_MAX}`);
}

/* ---- names to choose from ---- */

const word = () => {
  const at = $('query').selectionStart, before = $('query').value.slice(0, at).match(/[a-zA-Z_:][\w:]*$/);
  const quoted = ($('query').value.slice(0, at).match(/"/g) || []).length % 2 || /[{,]\s*[\w]*$/.test($('query').value.slice(0, at));
  return before && !quoted ? [before.index, at, before[0]] : null;
};
let chosen = -1;
function offer(list) {
  chosen = -1;
  $('offers').hidden = list.length === 0;
  $('offers').replaceChildren(...list.map(name => {
    const item = document.createElement('li');
    item.textContent = name;
    item.onmousedown = event => { event.preventDefault(); take(name); };
    return item;
  }));
}
function take(name) {
  const at = word(), text = $('query').value;
  if (at) $('query').setRangeText(name, at[0], at[1], 'end');
  else $('query').value = text + name;
  offer([]);
  $('query').focus();
  grow();
}
async function suggest() {
  const at = word();
  if (!at || at[2].length < 2) return offer([]);
  try {
    names = names || (await api('label/__name__/values', { limit: 20000 })).data;
  } catch { names = null; return; }
  const low = at[2].toLowerCase();
  const fit = names.filter(n => n.toLowerCase().includes(low) && n !== at[2]);
  fit.sort((a, b) => !a.toLowerCase().startsWith(low) - !b.toLowerCase().startsWith(low));
  offer(fit.slice(0, OFFERS_MAX));
}
function grow() {
  const q = $('query');
  q.style.height = 'auto';
  q.style.height = q.scrollHeight + 2 + 'px';
}
$('query').oninput = () => { grow(); suggest(); };
$('query').onblur = () => offer([]);
$('query').onkeydown = event => {
  const items = [...$('offers').children], open = !$('offers').hidden;
  if (open && (event.key === 'ArrowDown' || event.key === 'ArrowUp')) {
    chosen = (chosen + (event.key === 'ArrowDown' ? 1 : -1) + items.length) % items.length;
    items.forEach((item, i) => item.classList.toggle('on', i === chosen));
    items[chosen].scrollIntoView({ block: 'nearest' });
  } else if (open && event.key === 'Escape') offer([]);
  else if (open && (event.key === 'Tab' || event.key === 'Enter') && chosen >= 0) take(items[chosen].textContent);
  else if (event.key === 'Enter' && !event.shiftKey) run();
  else return;
  event.preventDefault();
};

/* ---- what there is ---- */

async function look() {
  try {
    const info = (await api('status/buildinfo')).data, ready = await fetch('-/ready');
    const why = ready.ok ? '' : ': ' + (await ready.text()).trim();
    $('state').textContent = `${info.application && info.application !== 'Koalemos' ? info.application + ' ' : ''}${ready.ok ? 'ready' : 'not ready'}${why}`;
    $('state').className = ready.ok ? '' : 'bad';
    const stats = (await api('status/tsdb', { topN: 20 })).data, top = stats.seriesCountByMetricName || [];
    $('first').hidden = top.length > 0;
    $('what').hidden = top.length === 0;
    rows($('metrics'), top.map(m => [m.name, m.value]), name => { $('query').value = name; grow(); run(); });
  } catch (error) {
    $('state').textContent = error.message;
    $('state').className = 'bad';
  }
}
function remember() {
  const state = new URLSearchParams({ q: $('query').value, r: range });
  if ($('until').value) state.set('u', $('until').value);
  if ($('tenant').value) state.set('t', $('tenant').value);
  history.replaceState(null, '', '#' + state);
}
function choose(seconds) {
  range = seconds;
  [...$('ranges').children].forEach((b, i) => b.classList.toggle('on', RANGES[i][1] === seconds));
}

$('ranges').replaceChildren(...RANGES.map(([name, seconds]) => {
  const button = document.createElement('button');
  button.type = 'button';
  button.textContent = name;
  button.onclick = () => { choose(seconds); run(); };
  return button;
}));
$('ask').onsubmit = event => { event.preventDefault(); run(); };
$('until').onchange = run;
$('tenant').onchange = $('key').onchange = () => { names = null; look(); run(); };
$('curl').textContent = `echo 'greeting{from="me"} 1' | curl --data-binary @- ${location.origin}/api/v1/import/prometheus`;
$('yaml').textContent = `remote_write:\n  - url: ${location.origin}/api/v1/write`;
addEventListener('resize', draw);
setInterval(() => { if ($('again').checked && !document.hidden) run(); }, 10000);
setInterval(() => { if (!document.hidden) look(); }, 15000);

const was = new URLSearchParams(location.hash.slice(1));
choose(+was.get('r') || 3600);
$('query').value = was.get('q') || '';
$('until').value = was.get('u') || '';
$('tenant').value = was.get('t') || '';
grow();
look();
run();
