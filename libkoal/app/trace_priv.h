#ifndef KL_APP_TRACE_PRIV_H
#define KL_APP_TRACE_PRIV_H
/*
 * The tracer of a process: spans wait in a ring of fixed size and leave by OTLP over HTTP, in batches,
 * by a thread of its own. Whoever emits copies into the ring under a lock that is held for that copy
 * alone, and where the ring is full his span is dropped and counted: nobody ever waits for a collector.
 *
 *   emit ──► ring (trace.queue) ──► thread: batch ──► trace_otlp.c ──► libkoal/http/client ──► collector
 *
 * A batch that the collector does not take is tried TRIES times and then dropped and counted, too.
 */
#include "libkoal/base/buf.h"
#include "libkoal/base/err.h"
#include "libkoal/base/log.h"
#include "libkoal/base/metrics.h"
#include "libkoal/base/trace.h"

enum { KL_APP_TRACE_BATCH = 512, KL_APP_TRACE_TRIES = 3 };

/* ---- trace_otlp.c: an ExportTraceServiceRequest, in protobuf ---- */
struct kl_app_trace_from { const char *service, *version, *host, *instance; };
/* `epoch_ns`: what is added to monotonic times to get those since 1970. */
void kl_app_trace_encode(const struct kl_app_trace_from *from, const struct kl_trace_span *spans,
                         size_t count, int64_t epoch_ns, struct kl_buf *out);

/* ---- trace_export.c ---- */
struct kl_app_trace_options {
    struct kl_app_trace_from from;                     /* texts outlive the tracer */
    uint64_t one_in;
    unsigned queue;                                    /* spans */
    /* On the exporter's thread. KL_EAGAIN: it may be taken later; else it never will. */
    enum kl_code (*send)(void *ctx, struct kl_span body, int64_t timeout_ms, struct kl_err *err);
    void *ctx;
    struct kl_log *log;
    struct kl_metrics *metrics;
};
struct kl_tracer *kl_app_tracer_new(const struct kl_app_trace_options *o);
/* Registers what is counted, so that it is told where nothing is traced, too. */
void kl_app_trace_metrics(struct kl_metrics *m);
/* What waits gets most_ms to leave; then the rest is dropped. Nobody may emit any more. */
void kl_app_tracer_free(struct kl_tracer *t, int64_t most_ms);
#endif
