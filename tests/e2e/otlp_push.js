/* Pushes known values as an application would, with OpenTelemetry's own SDK and exporters.
 *
 *   node otlp_push.js proto|json|grpc URL delta|cumulative none|gzip TENANT
 *
 * Three rounds, each followed by an export; what they add up to is in test_otlp.py. Prints "done", or what
 * went wrong. KOA_AUTHORIZATION and KOA_TRACEPARENT are sent as those headers; KOA_CA: gRPC over TLS, signed by that CA, and
 * KOA_CLIENT: with our own certificate, KOA_CLIENT.crt and .key. The modules are found by NODE_PATH. */
'use strict';
const { MeterProvider, PeriodicExportingMetricReader, AggregationTemporality, AggregationType } =
  require('@opentelemetry/sdk-metrics');
const { resourceFromAttributes } = require('@opentelemetry/resources');
const { diag, DiagConsoleLogger, DiagLogLevel } = require('@opentelemetry/api');

diag.setLogger(new DiagConsoleLogger(), DiagLogLevel.WARN);
const [protocol, url, temporality, compression, tenant] = process.argv.slice(2);
const headers = { 'X-Scope-OrgID': tenant };
if (process.env.KOA_AUTHORIZATION)
  headers.authorization = process.env.KOA_AUTHORIZATION;
if (process.env.KOA_TRACEPARENT)
  headers.traceparent = process.env.KOA_TRACEPARENT;
const options = {
  url, compression,
  temporalityPreference: temporality === 'delta' ? AggregationTemporality.DELTA : AggregationTemporality.CUMULATIVE,
  timeoutMillis: 20000,
};

function exporter() {
  if (protocol === 'proto') {
    const { OTLPMetricExporter } = require('@opentelemetry/exporter-metrics-otlp-proto');
    return new OTLPMetricExporter({ ...options, headers });
  }
  if (protocol === 'json') {
    const { OTLPMetricExporter } = require('@opentelemetry/exporter-metrics-otlp-http');
    return new OTLPMetricExporter({ ...options, headers });
  }
  const { OTLPMetricExporter } = require('@opentelemetry/exporter-metrics-otlp-grpc');
  const { Metadata, credentials } = require('@grpc/grpc-js');
  const read = (path) => require('fs').readFileSync(path);
  const client = process.env.KOA_CLIENT;
  const way = !process.env.KOA_CA ? credentials.createInsecure()
    : credentials.createSsl(read(process.env.KOA_CA), client ? read(client + '.key') : null, client ? read(client + '.crt') : null);
  const metadata = new Metadata();
  Object.entries(headers).forEach(([name, value]) => metadata.set(name.toLowerCase(), value));
  return new OTLPMetricExporter({ ...options, metadata, credentials: way });
}

async function main() {
  const reader = new PeriodicExportingMetricReader({ exporter: exporter(), exportIntervalMillis: 1 << 30,
                                                     exportTimeoutMillis: 1 << 20 });
  const provider = new MeterProvider({
    readers: [reader],
    resource: resourceFromAttributes({ 'service.name': 'e2e', 'service.namespace': 'shop',
                                       'service.instance.id': protocol, 'host.name': 'box', 'list': ['a', 'b'] }),
    views: [{ instrumentName: 'e2e.sizes', aggregation: { type: AggregationType.EXPONENTIAL_HISTOGRAM } }],
  });
  const meter = provider.getMeter('e2e', '1.0');
  const requests = meter.createCounter('e2e.requests', { unit: '{request}', description: 'What came.' });
  const queue = meter.createUpDownCounter('e2e.queue');
  const temperature = meter.createGauge('e2e.temperature', { unit: 'Cel' });
  const latency = meter.createHistogram('e2e.latency', { unit: 'ms', advice: { explicitBucketBoundaries: [10, 100] } });
  const sizes = meter.createHistogram('e2e.sizes', { unit: 'By' });
  const rounds = [
    { requests: [[3, '/a'], [4, '/b']], queue: [5], temperature: 21.5, latency: [5, 50], sizes: [1, 2, 3] },
    { requests: [[10, '/a']], queue: [-2], temperature: 22.25, latency: [500], sizes: [4, 1024] },
    { requests: [[100, '/b'], [1000, '/a']], queue: [7], temperature: -3.125, latency: [10, 100.5], sizes: [0, 0.001] },
  ];
  for (const round of rounds) {
    for (const [n, route] of round.requests)
      requests.add(n, { 'http.route': route, code: 200, ok: true });
    round.queue.forEach((n) => queue.add(n));
    temperature.record(round.temperature);
    round.latency.forEach((n) => latency.record(n));
    round.sizes.forEach((n) => sizes.record(n));
    await new Promise((resolve) => setTimeout(resolve, 20));   /* a timestamp of its own */
    await provider.forceFlush();
  }
  await provider.shutdown();
  console.log('done');
}

main().catch((e) => { console.error(e); process.exit(1); });
