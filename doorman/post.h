#ifndef DM_POST_H
#define DM_POST_H
/*
 * Pushes that come as messages over NATS, to koa.<cell>.ingest.<tenant>: the bodies that HTTP takes.
 * Doormen share them (a queue group); a message that has a reply subject is answered with what HTTP
 * would have answered, "204" or a status and words: "400 2 refused, 7 stored: ...". Headers say what
 * HTTP's do; names are as written here.
 *
 *   Authorization     as over HTTP: where keys are asked for, a message without one is answered 401
 *   Content-Encoding  gzip, deflate, zstd, snappy
 *   Content-Type      application/x-protobuf, or none              remote write 1.0, snappy unless said
 *                     ...;proto=io.prometheus.write.v2.Request     remote write 2.0, the same
 *                     ...;proto=opentelemetry.proto.collector.metrics.v1.ExportMetricsServiceRequest
 *                     application/json                             OTLP, protobuf and JSON
 *                     text/plain, application/openmetrics-text     text exposition, OpenMetrics
 *                     application/x-ndjson, application/stream+json     JSON lines
 *                     text/csv, with Format                        CSV
 *                     text/x-influx-line, with Database, Precision      Influx lines
 *
 * X-Request-Id and traceparent mean what they mean over HTTP.
 *
 * A message is at most as large as the server lets through (1 MiB); bytes under way are bounded as
 * those of HTTP are, and by the bus. Core NATS delivers at most once: who needs to know asks for the
 * answer, and sends again what was not answered. Own loop; lives within the doorman's life.
 */
#include "doorman/doorman.h"
#include "libkoal/app/app.h"

struct dm_post;
struct dm_post *dm_post_new(struct dm_doorman *d, struct kl_bus *bus, const struct kl_app *app);
void dm_post_free(struct dm_post *p);                  /* after the bus is closed, before the doorman goes */
#endif
