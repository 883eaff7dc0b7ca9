#ifndef KL_TRACE_H
#define KL_TRACE_H
/*
 * Traces: what a request costs, across processes. The context is W3C's (Trace Context, level 1):
 *
 *   traceparent: 00-<trace id, 32 hex>-<parent's span id, 16 hex>-<flags, 2 hex; 01: sampled>
 *
 * A kl_trace is where a span stands: its trace and its own id. It is `on` only where the trace is
 * sampled; else nothing of it is made, sent or kept, and every call here costs a look at that bit.
 * A kl_tracer is handed in, like a log; NULL is one that never traces. It takes spans that have
 * ended, from any thread, and never waits: where they cannot leave fast enough they are dropped and
 * counted (libkoal/app/trace.h has the one there is).
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libkoal/base/mem.h"

enum { KL_TRACE_TEXT = 55, KL_TRACE_ATTRS_MAX = 12, KL_TRACE_TEXTS_MAX = 512, KL_TRACE_NAME_MAX = 63 };

struct kl_trace { uint8_t trace[16], span[8]; bool on; };

/* False, and *t not on, when it is none. A version that we do not know is read as far as we do. */
bool kl_trace_parse(struct kl_span traceparent, struct kl_trace *t);
void kl_trace_text(const struct kl_trace *t, char out[KL_TRACE_TEXT + 1]);
void kl_trace_id_text(const struct kl_trace *t, char out[33]);         /* "" when not on */

enum kl_trace_kind { KL_TRACE_INTERNAL = 1, KL_TRACE_SERVER, KL_TRACE_CLIENT, KL_TRACE_PRODUCER,
                     KL_TRACE_CONSUMER };                              /* as OTLP numbers them */
struct kl_trace_attr {
    const char *name;                                  /* static */
    uint16_t at, size;                                 /* in `texts`; */
    bool     is_number;                                /* or */
    int64_t  number;
};
struct kl_trace_span {                                 /* a plain value, some 900 bytes */
    struct kl_trace is;
    uint8_t parent[8];                                 /* zeros: it has none */
    struct kl_trace link;                              /* on: another span that it has to do with */
    char name[KL_TRACE_NAME_MAX + 1];                  /* copied: a route goes before its spans have left */
    enum kl_trace_kind kind;
    int64_t begin_ns, end_ns;                          /* monotonic */
    bool failed;
    unsigned attr_count;
    size_t   text_bytes;
    struct kl_trace_attr attrs[KL_TRACE_ATTRS_MAX];
    char     texts[KL_TRACE_TEXTS_MAX];
};

struct kl_tracer {
    /* Copies it, or drops it. Any thread; never waits. */
    void (*emit)(struct kl_tracer *t, const struct kl_trace_span *s);
    void (*draw)(struct kl_tracer *t, void *bytes, size_t size);       /* randomness; any thread */
    uint64_t one_in;                                   /* of requests that bring no context; 0: none */
};

/* Where a request begins: below what its sender says, if he does (may be NULL) and samples; else, if
 * `may`, one in `one_in`. `parent` gets the sender's span id, or zeros. */
void kl_trace_enter(struct kl_tracer *t, const char *traceparent, bool may, struct kl_trace *is,
                    uint8_t parent[8]);
/* A new place below `parent`; not on where that, or the tracer, is not. */
struct kl_trace kl_trace_child(struct kl_tracer *t, const struct kl_trace *parent);

/* A span at the place `is`, below `parent`. To be called only where is->on. A long name is cut. */
void kl_trace_span_begin(struct kl_trace_span *s, const struct kl_trace *is, const uint8_t parent[8],
                         const char *name, enum kl_trace_kind kind, int64_t begin_ns);
/* What does not fit is left out, or cut. */
void kl_trace_span_number(struct kl_trace_span *s, const char *name, int64_t number);
void kl_trace_span_text(struct kl_trace_span *s, const char *name, struct kl_span text);
void kl_trace_span_end(struct kl_tracer *t, struct kl_trace_span *s, int64_t end_ns);
#endif
